#include "control/cli/fetch.h"

#include <unistd.h>

#include "control/daemon/exit_code.h"
#include "crypto/format.h"

namespace sallyport::cli {

namespace {

using nlohmann::json;

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

std::expected<std::string, std::string> from_base64(std::string_view text) {
    if (text.size() % 4 != 0) return std::unexpected("its length is not a multiple of four");
    std::string out;
    out.reserve(text.size() / 4 * 3);
    for (std::size_t i = 0; i < text.size(); i += 4) {
        const bool last = i + 4 == text.size();
        const std::size_t padding = !last || text[i + 3] != '=' ? 0 : text[i + 2] == '=' ? 2 : 1;
        std::uint32_t bits = 0;
        for (std::size_t j = 0; j < 4 - padding; ++j) {
            const std::size_t value = kAlphabet.find(text[i + j]);
            if (value == std::string_view::npos) return std::unexpected(sallyport::format("there is a {:#x} in it", static_cast<unsigned char>(text[i + j])));
            bits = bits << 6 | static_cast<std::uint32_t>(value);
        }
        bits <<= 6 * padding;
        for (std::size_t j = 0; j < 3 - padding; ++j) out += static_cast<char>(bits >> (16 - 8 * j) & 0xff);
    }
    return out;
}

int fetch(Link& link, const Output& output, const Parsed& parsed) {
    if (!parsed.pipes.stages.empty() || parsed.pipes.json) {
        output.complain("a file goes through no filter; only | save takes it");
        return exit_code::kUsage;
    }
    if (!parsed.pipes.save && isatty(STDOUT_FILENO) != 0) {
        output.complain("a file is not for a terminal: add | save FILE, or send the output elsewhere");
        return exit_code::kUsage;
    }
    std::string whole;
    json arguments = parsed.request();
    try {
        for (std::uint64_t offset = 0;;) {
            arguments["offset"] = offset;
            const auto part = link.call(words_of(parsed.command->words), arguments);
            if (!part) {
                output.complain(part.error().text);
                return exit_code_of(part.error());
            }
            const auto data = from_base64(part->value("data", ""));
            if (!data) {
                output.complain("control's answer is not base64: " + data.error());
                return exit_code::kProtocol;
            }
            offset += data->size();
            if (parsed.pipes.save) whole += *data;
            else if (const int code = output.show(*data, Paint::none, parsed.pipes); code != exit_code::kOk) return code;
            if (part->value("last", true) || data->empty()) break;
        }
    } catch (const json::exception& error) {
        output.complain(sallyport::format("control's answer is not what this version expects: {}", error.what()));
        return exit_code::kProtocol;
    }
    return parsed.pipes.save ? output.show(std::move(whole), Paint::none, parsed.pipes) : exit_code::kOk;
}

}  // namespace sallyport::cli
