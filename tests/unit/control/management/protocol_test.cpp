#include "control/management/protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sallyport::management {
namespace {

using nlohmann::json;
using testing::HasSubstr;

/// The error of a line that must be refused.
Error error_of(std::string_view line) {
    const auto request = parse_request(line);
    EXPECT_FALSE(request) << line;
    return request ? Error{} : request.error().error;
}

TEST(ParseRequest, WholeRequest_IsRead) {
    const auto request =
        parse_request(R"({"version": 1, "id": 7, "command": ["show", "flows"], "arguments": {"limit": 10}})");
    ASSERT_TRUE(request);
    EXPECT_EQ(request->id, 7);
    EXPECT_EQ(request->name(), "show flows");
    EXPECT_EQ(request->arguments, json({{"limit", 10}}));
}

TEST(ParseRequest, OptionalMembersLeftOut_HaveDefaults) {
    const auto request = parse_request("{\"command\": [\"help\"]}\r");
    ASSERT_TRUE(request);
    EXPECT_TRUE(request->id.is_null());
    EXPECT_EQ(request->arguments, json::object());
}

TEST(ParseRequest, WhatIsNoRequest_IsRefusedWithTheReason) {
    EXPECT_EQ(error_of("").code, "bad_request");
    EXPECT_THAT(error_of("show flows").text, HasSubstr("not a line of JSON"));
    EXPECT_THAT(error_of("[1]").text, HasSubstr("not a JSON object"));
    EXPECT_THAT(error_of("{}").text, HasSubstr("command must be an array"));
    EXPECT_THAT(error_of(R"({"command": []})").text, HasSubstr("command must be an array"));
    EXPECT_THAT(error_of(R"({"command": ["show", 1]})").text, HasSubstr("each word"));
    EXPECT_THAT(error_of(R"({"command": ["show", ""]})").text, HasSubstr("each word"));
    EXPECT_THAT(error_of(R"({"command": ["a"], "arguments": []})").text, HasSubstr("arguments must be an object"));
    EXPECT_THAT(error_of(R"({"command": ["a"], "argumnets": {}})").text, HasSubstr("no member \"argumnets\""));
    EXPECT_THAT(error_of(R"({"command": ["a"], "id": [1]})").text, HasSubstr("id must be"));
    EXPECT_THAT(error_of(R"({"command": ["a"], "id": 1.5})").text, HasSubstr("id must be"));
    EXPECT_THAT(error_of(R"({"command": ["a"], "from": 1})").text, HasSubstr("from must be a string"));
    EXPECT_EQ(error_of(R"({"command": ["a"], "version": 2})").code, "unsupported_version");
    EXPECT_EQ(error_of("{\"command\": [\"\xff\"]}").code, "bad_request");  // not UTF-8
}

TEST(ParseRequest, Bounds_AreKept) {
    json words = json::array();
    for (std::size_t i = 0; i < kMaxCommandWords; ++i) words.push_back("w");
    EXPECT_TRUE(parse_request(json{{"command", words}}.dump()));
    words.push_back("w");
    EXPECT_THAT(error_of(json{{"command", words}}.dump()).text, HasSubstr("17 words"));

    EXPECT_TRUE(parse_request(json{{"command", {"a"}}, {"id", std::string(kMaxIdLength, 'i')}}.dump()));
    EXPECT_THAT(error_of(json{{"command", {"a"}}, {"id", std::string(kMaxIdLength + 1, 'i')}}.dump()).text,
                HasSubstr("id must be"));

    EXPECT_EQ(parse_request(json{{"command", {"a"}}, {"from", std::string(kMaxFromLength, 'f')}}.dump())->from.size(),
              kMaxFromLength);
    EXPECT_THAT(error_of(json{{"command", {"a"}}, {"from", std::string(kMaxFromLength + 1, 'f')}}.dump()).text,
                HasSubstr("at most 128 octets"));

    EXPECT_EQ(error_of(std::string(kMaxRequest, ' ')).code, "too_long");
    EXPECT_THAT(error_of(std::string(kMaxRequest - 1, '[')).text, HasSubstr("nested"));
    const auto nested = [](std::size_t levels) {  // inside of request and arguments
        return R"({"command": ["a"], "arguments": {"x": )" + std::string(levels, '[') + std::string(levels, ']') + "}}";
    };
    EXPECT_TRUE(parse_request(nested(kMaxNesting - 1)));
    EXPECT_THAT(error_of(nested(kMaxNesting)).text, HasSubstr("nested"));
}

TEST(ParseRequest, ErrorAfterTheId_AnswersThatId) {
    const auto request = parse_request(R"({"id": "x", "command": 1})");
    ASSERT_FALSE(request);
    EXPECT_EQ(request.error().id, "x");
}

TEST(Number, IsReadWithinItsRange) {
    const auto request = parse_request(R"({"command": ["a"], "arguments": {"n": 5, "s": "x", "m": -1}})");
    ASSERT_TRUE(request);
    EXPECT_EQ(request->number("n", 1, 0, 5).value(), 5u);
    EXPECT_EQ(request->number("absent", 42, 0, 5).value(), 42u);
    EXPECT_EQ(request->number("n", 1, 0, 4).error().text, "n must be an integer from 0 to 4, not 5");
    EXPECT_EQ(request->number("n", 1, 6, 9).error().code, "bad_argument");
    EXPECT_FALSE(request->number("s", 1, 0, 5));
    EXPECT_FALSE(request->number("m", 1, 0, 5));
}

TEST(Answer, RoundTrip_KeepsResultAndError) {
    const std::string good = format_answer(7, json{{"text", "two\nlines"}});
    EXPECT_EQ(std::ranges::count(good, '\n'), 1);
    EXPECT_TRUE(good.ends_with('\n'));
    const auto answer = parse_answer(good);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->id, 7);
    EXPECT_EQ(answer->result.value(), json({{"text", "two\nlines"}}));

    const auto refused = parse_answer(format_answer("a", std::unexpected(Error{"code", "text"})));
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->id, "a");
    EXPECT_EQ(refused->result.error().code, "code");
    EXPECT_EQ(refused->result.error().text, "text");
}

TEST(Answer, OctetsThatAreNotUtf8_AreReplaced) {
    const auto answer = parse_answer(format_answer(1, json("a\xff"
                                                           "b")));
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->result.value(),
              "a\xef\xbf\xbd"
              "b");
}

TEST(ParseAnswer, WhatIsNoAnswer_IsAnError) {
    EXPECT_FALSE(parse_answer(""));
    EXPECT_FALSE(parse_answer("[]"));
    EXPECT_FALSE(parse_answer(R"({"version": 1, "id": 1})"));
    EXPECT_FALSE(parse_answer(R"({"version": 1, "id": 1, "ok": false, "error": "x"})"));
    EXPECT_THAT(parse_answer(std::string(1'000'000, '[')).error(), HasSubstr("nested"));
    EXPECT_THAT(parse_answer(R"({"version": 2, "id": 1, "ok": true, "result": 1})").error(), HasSubstr("version 2"));
}

}  // namespace
}  // namespace sallyport::management
