// Whatever the parser of management requests makes of a line, it keeps its bounds, what it accepts survives being
// written and parsed again, and every line gets one line of an answer that the client's parser accepts.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "control/management/command_table.h"
#include "control/management/protocol.h"
#include "crypto/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sallyport::management;
    const std::string_view line(reinterpret_cast<const char*>(data), size);
    const auto answered = [](const nlohmann::json& id, const Result& result) {
        const std::string text = format_answer(id, result);
        SALLYPORT_CHECK(text.find('\n') == text.size() - 1);
        const auto answer = parse_answer(std::string_view(text).substr(0, text.size() - 1));
        SALLYPORT_CHECK(answer && answer->id == id && answer->result.has_value() == result.has_value());
    };
    static_cast<void>(parse_answer(line));  // must not fail otherwise than by its return value

    const auto request = parse_request(line);
    if (!request) {
        SALLYPORT_CHECK(!request.error().error.code.empty() && !request.error().error.text.empty());
        answered(request.error().id, std::unexpected(request.error().error));
        return 0;
    }
    SALLYPORT_CHECK(size < kMaxRequest && !request->command.empty() && request->command.size() <= kMaxCommandWords);
    SALLYPORT_CHECK(request->arguments.is_object());
    const std::string again_line = format_request(*request);
    SALLYPORT_CHECK(again_line.find('\n') == again_line.size() - 1);
    const auto again = parse_request(std::string_view(again_line).substr(0, again_line.size() - 1));
    // Escapes and defaults may make the second line the longer one.
    SALLYPORT_CHECK(again || again_line.size() > kMaxRequest);
    if (again)
        SALLYPORT_CHECK(again->id == request->id && again->command == request->command &&
                        again->arguments == request->arguments);
    static_cast<void>(request->number("limit", 0, 0, 1000));
    const CommandTable table;
    answered(request->id, table.handle(*request, {}));
    return 0;
}
