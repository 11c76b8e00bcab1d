#include "control/cli/output.h"

#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <iostream>

#include "control/cli/pager.h"
#include "control/cli/render.h"
#include "control/cli/terminal.h"
#include "control/daemon/exit_code.h"
#include "crypto/format.h"

namespace sallyport::cli {

std::string printable_lines(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const std::size_t end = text.find_first_of("\n\t");
        out += printable(text.substr(0, end));
        if (end == std::string_view::npos) break;
        out += text[end];
        text.remove_prefix(end + 1);
    }
    if (!out.empty() && out.back() != '\n') out += '\n';
    return out;
}

int Output::show(std::string text, Paint paint, const Pipes& pipes) const {
    text = filtered(std::move(text), pipes);
    if (pipes.save) {
        if (const auto written = write_file(caller_, *pipes.save, text); !written) {
            complain(written.error());
            return exit_code::kOsError;
        }
        remark(sallyport::format("{} octets written to {}", text.size(), *pipes.save));
        return exit_code::kOk;
    }
    if (colours_ && !pipes.json) text = coloured(text, paint);
    if (paged_ && !pipes.no_more) {
        page(text);
        return exit_code::kOk;
    }
    std::cout << text << std::flush;
    if (std::cout) return exit_code::kOk;
    std::cerr << "sallyport: the output could not be written\n";
    return exit_code::kOsError;
}

void Output::complain(std::string_view text) const {
    const std::string lines = printable_lines(text);
    if (!paged_) std::cerr << "sallyport: " << lines;
    else if (colours_) std::cerr << colour::kRed << "error: " << colour::kOff << lines;
    else std::cerr << "error: " << lines;
}

void Output::remark(std::string_view text) const {
    if (paged_) std::cout << printable_lines(text) << std::flush;
}

char Output::ask(std::string_view question, char otherwise) const {
    if (!paged_) return otherwise;
    std::cout << question << ' ' << std::flush;
    // Not through std::cin: what it reads ahead would be lost to the line editor.
    char answer = 0, octet = 0;
    for (;;) {
        const ssize_t n = read(STDIN_FILENO, &octet, 1);
        if (n <= 0) return otherwise;
        if (octet == '\n') return answer == 0 ? otherwise : answer;
        if (answer == 0 && octet != ' ') answer = static_cast<char>(std::tolower(static_cast<unsigned char>(octet)));
    }
}

}  // namespace sallyport::cli
