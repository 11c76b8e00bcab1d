#pragma once

#include <string>
#include <string_view>

#include "control/cli/caller.h"
#include "control/cli/command_tree.h"
#include "control/cli/pipes.h"

namespace sallyport::cli {

/// Text of several lines that others have written, such as a configuration: control characters but LF and TAB as \xNN.
[[nodiscard]] std::string printable_lines(std::string_view text);

/// Where results and complaints go: results to stdout through the line's pipes, with pager and colours where a person sits; complaints to
/// stderr.
class Output {
 public:
    /// `paged`: long results stop at the end of the screen.
    Output(Caller caller, bool paged, bool colours) : caller_(std::move(caller)), paged_(paged), colours_(colours) {}

    /// The exit code: kOk, or kOsError (with a complaint) when it could not be written.
    int show(std::string text, Paint paint, const Pipes& pipes) const;

    /// "sallyport: TEXT" in a script, "error: TEXT" in front of a person. Control characters are escaped, line ends are not.
    void complain(std::string_view text) const;

    /// A line to the person that is no result: only where one sits.
    void remark(std::string_view text) const;

    /// Asks the person; the first character of the answer, in lower case. `otherwise` where nobody sits, or for the end of input.
    [[nodiscard]] char ask(std::string_view question, char otherwise) const;

    [[nodiscard]] const Caller& caller() const { return caller_; }
    [[nodiscard]] bool paged() const { return paged_; }
    [[nodiscard]] bool colours() const { return colours_; }

 private:
    Caller caller_;
    bool paged_, colours_;
};

}  // namespace sallyport::cli
