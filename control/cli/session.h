#pragma once

#include <chrono>
#include <expected>
#include <optional>
#include <string>

#include "control/cli/configuration_mode.h"
#include "control/cli/grammar.h"
#include "control/cli/link.h"
#include "control/cli/output.h"
#include "control/cli/running_names.h"

namespace sallyport::cli {

/// Somebody's work with the appliance: lines are understood by the mode that it is in, and carried out. One thread.
class Session {
 public:
    Session(Link link, Output output);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// Carries out a line of at least one word; the exit code, or what is wrong with the line.
    [[nodiscard]] std::expected<int, Fault> carry_out(const Line& line);

    /// The input has ended: leaves what can be left, asking nobody.
    void hang_up();

    [[nodiscard]] Mode mode() const { return configuration_ ? Mode::configuration : Mode::operational; }
    /// Where paths begin in configuration mode.
    [[nodiscard]] std::vector<std::string> at() const { return configuration_ ? configuration_->at() : std::vector<std::string>{}; }
    [[nodiscard]] bool over() const { return over_; }
    [[nodiscard]] RunningNames& names() { return names_; }
    [[nodiscard]] const Output& output() const { return output_; }

 private:
    [[nodiscard]] std::expected<int, Fault> carry_out(Parsed parsed);
    int call(const Parsed& parsed);
    int show_configuration(const Parsed& parsed);
    [[nodiscard]] std::expected<int, Fault> help(const Parsed& parsed);
    [[nodiscard]] std::expected<int, Fault> help_setting(const Parsed& parsed);
    int configure(const Parsed& parsed);
    int leave(bool outright);

    Link link_;
    Output output_;
    RunningNames names_;
    std::optional<ConfigurationMode> configuration_;
    bool over_ = false;
};

}  // namespace sallyport::cli
