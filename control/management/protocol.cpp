#include "control/management/protocol.h"

#include <algorithm>

#include "crypto/format.h"

namespace sallyport::management {

namespace {

using nlohmann::json;

/// Why a parse was given up, from the parser's callback.
struct TooDeep {};

json parse(std::string_view line) {
    return json::parse(line, [](int depth, json::parse_event_t, json&) {
        if (depth > static_cast<int>(kMaxNesting)) throw TooDeep{};
        return true;
    });
}

bool is_id(const json& id) {
    return id.is_null() || id.is_number_integer() ||
           (id.is_string() && id.get_ref<const std::string&>().size() <= kMaxIdLength);
}

std::string dump_line(const json& value) {
    return value.dump(-1, ' ', false, json::error_handler_t::replace) + '\n';
}

/// A client's value in a message: bounded.
std::string shown(const json& value) {
    return value.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 64);
}

/// What is wrong with the command of a request, or empty.
std::string command_error(const json& command) {
    if (!command.is_array() || command.empty())
        return "command must be an array of words, such as [\"show\", \"flows\"]";
    if (command.size() > kMaxCommandWords)
        return sallyport::format("command has {} words; at most {} are taken", command.size(), kMaxCommandWords);
    for (const json& word : command)
        if (!word.is_string() || word.get_ref<const std::string&>().empty())
            return "each word of command must be a string that is not empty";
    return {};
}

}  // namespace

std::string Request::name() const {
    std::string name;
    for (const std::string& word : command) {
        if (!name.empty()) name += ' ';
        name += word;
    }
    return name;
}

std::expected<std::uint64_t, Error> Request::number(const std::string& argument, std::uint64_t otherwise,
                                                    std::uint64_t least, std::uint64_t most) const {
    const auto found = arguments.find(argument);
    if (found == arguments.end()) return otherwise;
    if (found->is_number_unsigned()) {
        const auto value = found->get<std::uint64_t>();
        if (value >= least && value <= most) return value;
    }
    return std::unexpected(Error{"bad_argument", sallyport::format("{} must be an integer from {} to {}, not {}", argument,
                                                                   least, most, shown(*found))});
}

std::expected<std::string, Error> Request::text(const std::string& argument) const {
    const auto found = arguments.find(argument);
    if (found == arguments.end()) return std::string();
    if (found->is_string()) return found->get<std::string>();
    return std::unexpected(Error{"bad_argument", sallyport::format("{} must be a string, not {}", argument, shown(*found))});
}

std::expected<bool, Error> Request::flag(const std::string& argument, bool otherwise) const {
    const auto found = arguments.find(argument);
    if (found == arguments.end()) return otherwise;
    if (found->is_boolean()) return found->get<bool>();
    return std::unexpected(
        Error{"bad_argument", sallyport::format("{} must be true or false, not {}", argument, shown(*found))});
}

std::expected<Request, BadRequest> parse_request(std::string_view line) {
    const auto bad = [](json id, std::string code, std::string text) {
        return std::unexpected(BadRequest{std::move(id), {std::move(code), std::move(text)}});
    };
    if (line.size() >= kMaxRequest)
        return bad(nullptr, "too_long", sallyport::format("the request is longer than {} octets", kMaxRequest));
    json object;
    try {
        object = parse(line);
    } catch (const TooDeep&) {
        return bad(nullptr, "bad_request", sallyport::format("the request is nested more than {} deep", kMaxNesting));
    } catch (const json::exception&) {  // its text quotes the input at length
        return bad(nullptr, "bad_request", "the request is not a line of JSON");
    }
    if (!object.is_object()) return bad(nullptr, "bad_request", "the request is not a JSON object");

    Request request;
    if (const auto id = object.find("id"); id != object.end()) {
        if (!is_id(*id))
            return bad(nullptr, "bad_request",
                       sallyport::format("id must be an integer or a string of at most {} octets", kMaxIdLength));
        request.id = *id;
    }
    for (const auto& [member, value] : object.items()) {
        if (member == "version") {
            if (value != kProtocolVersion)
                return bad(request.id, "unsupported_version",
                           sallyport::format("version must be {}: the protocol that this control speaks", kProtocolVersion));
        } else if (member == "command") {
            if (auto error = command_error(value); !error.empty())
                return bad(request.id, "bad_request", std::move(error));
            request.command = value.get<std::vector<std::string>>();
        } else if (member == "arguments") {
            if (!value.is_object()) return bad(request.id, "bad_request", "arguments must be an object");
            request.arguments = value;
        } else if (member == "from") {
            if (!value.is_string() || value.get_ref<const std::string&>().size() > kMaxFromLength)
                return bad(request.id, "bad_request",
                           sallyport::format("from must be a string of at most {} octets", kMaxFromLength));
            request.from = value;
        } else if (member != "id") {
            return bad(request.id, "bad_request",
                       sallyport::format("a request has no member \"{}\", but version, id, command, arguments, from",
                                         member.substr(0, 64)));
        }
    }
    if (request.command.empty()) return bad(request.id, "bad_request", command_error(nullptr));
    return request;
}

std::string format_request(const Request& request) {
    json object{{"version", kProtocolVersion},
                {"id", request.id},
                {"command", request.command},
                {"arguments", request.arguments}};
    if (!request.from.empty()) object["from"] = request.from;
    return dump_line(object);
}

std::string format_answer(const json& id, const Result& result) {
    json answer{{"version", kProtocolVersion}, {"id", id}, {"ok", result.has_value()}};
    if (result)
        answer["result"] = *result;
    else
        answer["error"] = {{"code", result.error().code}, {"text", result.error().text}};
    return dump_line(answer);
}

std::expected<Answer, std::string> parse_answer(std::string_view line) {
    try {
        json object = parse(line);
        if (object.at("version") != kProtocolVersion)
            return std::unexpected(sallyport::format("control speaks version {} of the protocol and this program version {}",
                                                     object.at("version").dump().substr(0, 16), kProtocolVersion));
        Answer answer{.id = object.at("id"), .result = {}};
        if (object.at("ok").get<bool>()) {
            answer.result = std::move(object.at("result"));
        } else {
            const json& error = object.at("error");
            answer.result =
                std::unexpected(Error{error.at("code").get<std::string>(), error.at("text").get<std::string>()});
        }
        return answer;
    } catch (const TooDeep&) {
        return std::unexpected(
            sallyport::format("not an answer of the management protocol: nested more than {} deep", kMaxNesting));
    } catch (const json::exception& e) {
        return std::unexpected(sallyport::format("not an answer of the management protocol: {}", e.what()));
    }
}

}  // namespace sallyport::management
