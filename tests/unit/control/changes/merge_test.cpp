#include "control/changes/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sallyport::changes {
namespace {

using configuration::Document;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Document parsed(const std::string& text) { return *Document::parse(text); }

Document edited(Document document, const std::vector<std::string>& commands) {
    for (const std::string& command : commands) {
        auto words = *configuration::split_words(command);
        const bool sets = words.front() == "set";
        words.erase(words.begin());
        const auto done = sets ? document.set(words) : document.remove(words);
        EXPECT_TRUE(done) << command << ": " << (done ? "" : done.error().text);
    }
    return document;
}

const Document& base() {
    static const Document document = parsed(R"(# Theirs and ours.
pools = (
    { name = "web"; members = ( { name = "a"; address = "198.51.100.1:443"; }, { name = "b"; address = "198.51.100.2:443"; } ); }
);
services = (
    {
        name = "www";
        listen = [ "192.0.2.1:443", "192.0.2.2:443" ];
        alpn = [ "h2", "http/1.1" ];
        idle_timeout_s = 100;
        pool = "web";
    }
);
)");
    return document;
}

std::vector<std::string> paths(const std::vector<Conflict>& conflicts) {
    std::vector<std::string> found;
    for (const Conflict& each : conflicts) found.push_back(each.path);
    return found;
}

std::string set_lines(const Document& document) { return *document.show_set({}); }

TEST(Merge, OneAlone_IsTaken) {
    const Document changed = edited(base(), {"set services www idle_timeout_s 200"});
    EXPECT_EQ(merge(base(), changed, base()).document.text(), changed.text());
    EXPECT_EQ(merge(base(), base(), changed).document.text(), changed.text());
}

TEST(Merge, DifferentSettings_AreBothThere) {
    const auto merged = merge(base(), edited(base(), {"set services www idle_timeout_s 200", "set pools web members c address 198.51.100.3:443"}),
                              edited(base(), {"set services www session_tickets 1", "delete pools web members a", "set log level debug"}));
    EXPECT_THAT(merged.conflicts, IsEmpty());
    const std::string lines = set_lines(merged.document);
    for (const char* line : {"idle_timeout_s 200\n", "session_tickets 1\n", "members c address", "log level debug\n"}) EXPECT_THAT(lines, HasSubstr(line));
    EXPECT_THAT(lines, testing::Not(HasSubstr("members a ")));
}

TEST(Merge, LinesApart_KeepTheCommentsOfBoth) {
    const Document running = parsed("# first\n" + base().text() + "log = { level = \"info\"; };   # loud\n");
    const Document candidate = parsed(std::string(base().text()).replace(base().text().find("idle_timeout_s = 100;"), 21, "idle_timeout_s = 900;   # patient"));
    const auto merged = merge(base(), running, candidate);
    EXPECT_THAT(merged.conflicts, IsEmpty());
    for (const char* text : {"# first\n", "# patient\n", "# loud\n"}) EXPECT_THAT(merged.document.text(), HasSubstr(text));
}

TEST(Merge, SameSettingToOtherValues_IsAConflictAndKeepsTheCandidates) {
    const auto merged = merge(base(), edited(base(), {"set services www idle_timeout_s 200"}), edited(base(), {"set services www idle_timeout_s 300"}));
    ASSERT_THAT(paths(merged.conflicts), ElementsAre("services www idle_timeout_s"));
    EXPECT_EQ(merged.conflicts[0].base, "100");
    EXPECT_EQ(merged.conflicts[0].running, "200");
    EXPECT_EQ(merged.conflicts[0].candidate, "300");
    EXPECT_THAT(merged.document.text(), HasSubstr("idle_timeout_s = 300;"));
    EXPECT_THAT(merge(base(), edited(base(), {"set services www idle_timeout_s 300"}), edited(base(), {"set services www idle_timeout_s 300"})).conflicts, IsEmpty());
    EXPECT_THAT(paths(merge(base(), edited(base(), {"delete services www idle_timeout_s"}), edited(base(), {"set services www idle_timeout_s 300"})).conflicts),
                ElementsAre("services www idle_timeout_s"));
    EXPECT_THAT(paths(merge(base(), edited(base(), {"set services www idle_timeout_s 300"}), edited(base(), {"delete services www idle_timeout_s"})).conflicts),
                ElementsAre("services www idle_timeout_s"));
}

TEST(Merge, ItemsOfAnArray_AreMergedOneByOne) {
    const auto merged = merge(base(), edited(base(), {"set services www listen 192.0.2.3:443"}),
                              edited(base(), {"set services www listen 192.0.2.4:443", "delete services www listen 192.0.2.1:443"}));
    EXPECT_THAT(merged.conflicts, IsEmpty());
    EXPECT_THAT(merged.document.text(), HasSubstr("listen = [ \"192.0.2.2:443\", \"192.0.2.3:443\", \"192.0.2.4:443\" ];"));
    const Document turned = edited(base(), {"delete services www alpn h2", "set services www alpn h2"});
    EXPECT_THAT(paths(merge(base(), edited(base(), {"set services www alpn http/1.0"}), turned).conflicts), ElementsAre("services www alpn"));
    EXPECT_THAT(merge(base(), edited(base(), {"set log"}), turned).document.text(), HasSubstr("alpn = [ \"http/1.1\", \"h2\" ]"));
}

TEST(Merge, WhatOneRemovesAndTheOtherChanges_IsAConflict) {
    const auto lost = merge(base(), edited(base(), {"delete services www"}), edited(base(), {"set services www idle_timeout_s 300"}));
    EXPECT_THAT(paths(lost.conflicts), ElementsAre("services www"));
    EXPECT_THAT(lost.document.text(), HasSubstr("idle_timeout_s = 300;"));
    EXPECT_THAT(lost.document.text(), HasSubstr("pool = \"web\";"));
    const auto removed = merge(base(), edited(base(), {"set services www idle_timeout_s 300"}), edited(base(), {"delete services www"}));
    EXPECT_THAT(paths(removed.conflicts), ElementsAre("services www"));
    EXPECT_THAT(removed.document.text(), testing::Not(HasSubstr("www")));
}

TEST(Merge, BothMakeTheSameNewElement_TheirSettingsMeet) {
    const auto merged = merge(base(), edited(base(), {"set services mail pool web", "set services mail listen 192.0.2.1:993"}), edited(base(), {"set services mail idle_timeout_s 5"}));
    EXPECT_THAT(merged.conflicts, IsEmpty());
    EXPECT_THAT(set_lines(merged.document), HasSubstr("set services mail pool web\n"));
    EXPECT_THAT(set_lines(merged.document), HasSubstr("set services mail idle_timeout_s 5\n"));
}

}  // namespace
}  // namespace sallyport::changes
