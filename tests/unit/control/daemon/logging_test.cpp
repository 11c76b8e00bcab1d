#include "control/daemon/logging.h"
#include "crypto/format.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace sallyport::daemon {
namespace {

/// What is written to stderr while `body` runs.
template <typename Body>
std::string stderr_of(Body body) {
    testing::internal::CaptureStderr();
    body();
    return testing::internal::GetCapturedStderr();
}

TEST(Logging, Event_IsOneLineWithTimeLevelProgramAndFields) {
    const std::string line = stderr_of([] {
        start_logging("sallyport-test", Level::info);
        log(Level::info, "flow_ended",
            {{"flow", 7}, {"reason", "finished"}, {"text", "both sides closed"}, {"resumed", true}});
    });
    EXPECT_THAT(line, testing::MatchesRegex(
                          "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{3}Z info sallyport-test "
                          "flow_ended flow=7 reason=finished text=\"both sides closed\" resumed=yes\n"));
}

TEST(Logging, BelowTheLevel_IsNotWritten) {
    const std::string lines = stderr_of([] {
        start_logging("sallyport-test", Level::warning);
        log(Level::info, "no");
        log(Level::warning, "yes");
        set_log_level(Level::error);
        log(Level::warning, "no");
    });
    EXPECT_THAT(lines, testing::EndsWith(" warning sallyport-test yes\n"));
    EXPECT_EQ(std::ranges::count(lines, '\n'), 1);
}

TEST(Logging, WhatAPeerSent_CannotBreakALine) {
    const std::string lines = stderr_of([] {
        start_logging("sallyport-test", Level::info);
        log(Level::info, "handshake_failed", {{"server_name", "a\nforged x=\"y\"\x1b[2J\xff\xc2\x9b\\"}});
        spdlog::info("raw\nline");
    });
    EXPECT_EQ(std::ranges::count(lines, '\n'), 2);
    EXPECT_THAT(lines, testing::HasSubstr(R"(server_name="a\nforged x=\"y\"\x1b[2J\xff\xc2\x9b\\")"));
    EXPECT_THAT(lines, testing::HasSubstr("raw\\nline"));
}

TEST(Logging, NewestLines_AreKeptAndFound) {
    static_cast<void>(stderr_of([] {
        start_logging("sallyport-test", Level::info);
        for (std::size_t i = 0; i < kKeptLines + 10; ++i) log(i % 2 == 0 ? Level::info : Level::warning, "line", {{"number", i}, {"what", "a\nb"}});
        log(Level::debug, "below");
    }));
    const auto all = kept_lines(kKeptLines + 100);
    ASSERT_EQ(all.size(), kKeptLines);
    EXPECT_EQ(all.back().text, sallyport::format("line number={} what=\"a\\nb\"", kKeptLines + 9));
    EXPECT_EQ(all.back().level, Level::warning);
    EXPECT_EQ(all.front().text, "line number=10 what=\"a\\nb\"");
    EXPECT_EQ(kept_lines(3).size(), 3u);
    EXPECT_EQ(kept_lines(kKeptLines, Level::warning).size(), kKeptLines / 2);
    EXPECT_EQ(kept_lines(10, Level::trace, "number=77 ").size(), 1u);
}

TEST(Logging, FieldText_QuotesWhatIsNoPlainWord) {
    EXPECT_EQ(field_text("plain-word_1.2:3/4"), "plain-word_1.2:3/4");
    EXPECT_EQ(field_text(""), "\"\"");
    EXPECT_EQ(field_text("two words"), "\"two words\"");
    EXPECT_EQ(field_text("a=b"), "\"a=b\"");
    EXPECT_EQ(field_text("Zürich"), "\"Zürich\"");
    EXPECT_EQ(field_text("\xc0\xaf"), R"("\xc0\xaf")");          // overlong
    EXPECT_EQ(field_text("\xed\xa0\x80"), R"("\xed\xa0\x80")");  // surrogate
    EXPECT_EQ(field_text("\xe2\x82"), R"("\xe2\x82")");          // cut off
}

TEST(Logging, StderrIsTheJournal_GetsPrefixesAndNoTime) {
    EXPECT_FALSE(is_journal(2, nullptr));
    EXPECT_FALSE(is_journal(2, "nonsense"));
    EXPECT_FALSE(is_journal(-1, "1:1"));
    const int saved = dup(STDERR_FILENO);
    const std::string lines = stderr_of([] {
        struct stat status{};
        fstat(STDERR_FILENO, &status);
        setenv("JOURNAL_STREAM", sallyport::format("{}:{}", status.st_dev, status.st_ino).c_str(), 1);
        start_logging("sallyport-test", Level::debug);
        unsetenv("JOURNAL_STREAM");
        log(Level::debug, "a");
        log(Level::info, "b");
        log(Level::warning, "c");
        log(Level::error, "d", {{"k", "v"}});
    });
    close(saved);
    EXPECT_EQ(lines, "<7>a\n<6>b\n<4>c\n<3>d k=v\n");
}

TEST(Logging, Levels_AreParsedByName) {
    EXPECT_EQ(parse_level("trace"), Level::trace);
    EXPECT_EQ(parse_level("warning"), Level::warning);
    const auto wrong = parse_level("warn");
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error(), "log level warn is none of trace, debug, info, warning, error");
}

}  // namespace
}  // namespace sallyport::daemon
