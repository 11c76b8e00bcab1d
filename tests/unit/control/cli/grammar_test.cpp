#include "control/cli/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "control/cli/help.h"

namespace sallyport::cli {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class FakeNames : public Names {
 public:
    std::vector<Candidate> of(Source source, const json& arguments, const std::vector<std::string>& path, std::string_view) override {
        switch (source) {
            case Source::services:
                return {{"www", "web"}, {"mail", ""}};
            case Source::pools:
                return {{"web", ""}, {"two words", ""}};
            case Source::members:
                return {{arguments.value("pool", "?") + "1", ""}};
            case Source::captures:
                return {{"3", "running, a.pcapng"}};
            case Source::capture_files:
                return {{"a.pcapng", ""}, {"b-secrets.pcapng", ""}};
            case Source::flows:
                return {{"00-000001-00000002", ""}};
            case Source::candidate:
                if (path.empty()) return {{"services", "what clients reach"}, {"pools", ""}};
                if (path == std::vector<std::string>{"services"}) return {{"www", ""}, {"<name>", "a new one", false}};
                return {};
            default:
                return {};
        }
    }
};

json arguments(Mode mode, const char* line) {
    const auto parsed = parse(mode, split(line));
    return parsed ? parsed->request() : json("fault: " + parsed.error().text);
}
std::string command(Mode mode, const char* line) {
    const auto parsed = parse(mode, split(line));
    return parsed ? parsed->command->words : "fault: " + parsed.error().text;
}
Fault fault(Mode mode, const char* line) {
    const auto parsed = parse(mode, split(line));
    return parsed ? Fault{999, "none"} : parsed.error();
}
std::vector<std::string> next(Mode mode, const char* line) {
    FakeNames names;
    std::vector<std::string> words;
    for (const Candidate& each : complete(mode, line, names).candidates) words.push_back(each.word);
    return words;
}

constexpr Mode kRun = Mode::operational, kEdit = Mode::configuration;

TEST(Tree, EveryCommand_IsFoundByItsWords) {
    for (const Mode mode : {kRun, kEdit}) {
        std::set<std::string> seen;
        for (const Command& each : commands(mode)) {
            EXPECT_TRUE(seen.insert(each.words).second) << each.words << " is there twice";
            const Node* node = &tree(mode);
            for (const Word& word : split(each.words).words) {
                node = node->child(word.text);
                ASSERT_NE(node, nullptr) << each.words;
                EXPECT_NE(node->help, "") << each.words;
            }
            EXPECT_EQ(node->command, &each);
            EXPECT_THAT(help_text(mode, std::vector<std::string>{std::string(each.words)}), HasSubstr(each.help));
        }
    }
}

TEST(Tree, Arguments_AreInAnOrderThatCanBeRead) {
    for (const Mode mode : {kRun, kEdit})
        for (const Command& each : commands(mode)) {
            bool optional = false;
            for (const Argument& argument : each.arguments) {
                EXPECT_TRUE(argument.place != Place::required || !optional) << each.words;
                optional = optional || argument.place == Place::optional || argument.place == Place::rest;
                EXPECT_EQ(argument.source == Source::choices, !argument.choices.empty()) << each.words;
            }
        }
}

TEST(Tree, ShowAlarms_IsShownAsText) {
    const auto parsed = parse(kRun, split("show alarms"));
    ASSERT_TRUE(parsed);
    const json result = {{"active", json::array({{{"number", 1}, {"kind", "port_down"}, {"object", "port outside"}, {"severity", "critical"}, {"text", "has no link"}}})}};
    EXPECT_THAT(parsed->command->text(result, {}), HasSubstr("port outside"));
}

TEST(Parse, Abbreviations_ThatAreClear) {
    EXPECT_EQ(command(kRun, "show services"), "show services");
    EXPECT_EQ(command(kRun, "sh ser"), "show services");
    EXPECT_EQ(command(kRun, "sh ve"), "show version");
    EXPECT_EQ(command(kEdit, "comm"), "commit");
    EXPECT_EQ(arguments(kRun, "sh flows lim 5"), json({{"limit", 5}}));
}

TEST(Parse, WholeWord_WinsOverLongerOnes) {
    EXPECT_EQ(command(kRun, "show flow 12"), "show flow");
    EXPECT_EQ(arguments(kRun, "show flow 12"), json({{"id", "12"}}));
    EXPECT_EQ(command(kRun, "show flows"), "show flows");
}

TEST(Parse, AmbiguousWord_NamesThePossibilities) {
    const Fault told = fault(kRun, "show po");
    EXPECT_EQ(told.at, 5u);
    EXPECT_EQ(told.text, "\"po\" is ambiguous: ports, pools, policy");
    EXPECT_EQ(fault(kRun, "show flows m").text, "\"m\" is ambiguous: member, min-age-s");
}

TEST(Parse, UnknownWord_NamesTheNearestAndThePlace) {
    EXPECT_EQ(fault(kRun, "show flwos").text, "unknown word \"flwos\"; did you mean \"flows\"?");
    EXPECT_EQ(fault(kRun, "show flwos").at, 5u);
    EXPECT_EQ(fault(kRun, "shwo flows").text, "unknown word \"shwo\"; did you mean \"show\"?");
    EXPECT_EQ(fault(kRun, "show flows limti 5").text, "unknown word \"limti\"; did you mean \"limit\"?");
    EXPECT_EQ(fault(kRun, "show version now").text, "unknown word \"now\"; nothing more can stand here");
}

TEST(Parse, SomethingMissing_IsSaidAtTheEnd) {
    EXPECT_THAT(fault(kRun, "drain").text, HasSubstr("one of service, pool"));
    EXPECT_EQ(fault(kRun, "drain").at, 5u);
    EXPECT_THAT(fault(kRun, "drain service").text, HasSubstr("<service> is missing: name of the service"));
    EXPECT_THAT(fault(kRun, "show flows limit").text, HasSubstr("limit needs a value"));
    EXPECT_THAT(fault(kRun, "show flow \"a").text, HasSubstr("not closed"));
    EXPECT_EQ(fault(kRun, "show flow \"a").at, 10u);
}

TEST(Parse, Options_AreKeywords) {
    EXPECT_EQ(arguments(kRun, "show flows --limit 5"), json({{"limit", 5}}));
    EXPECT_EQ(arguments(kRun, "show flows --limit=5"), json({{"limit", 5}}));
    EXPECT_EQ(arguments(kRun, "show flows"), json({{"limit", 100}}));
    EXPECT_EQ(arguments(kRun, "show counters --all"), json::object());   // the CLI's own
    EXPECT_TRUE(parse(kRun, split("show counters all"))->arguments["all"]);
    EXPECT_TRUE(parse(kRun, split("show --json counters"))->pipes.json);
    EXPECT_EQ(fault(kRun, "show flows --jsno").text, "unknown option \"--jsno\"; did you mean \"--json\"?");
    EXPECT_THAT(fault(kRun, "show flows --limit many").text, HasSubstr("--limit must be a number"));
    EXPECT_THAT(fault(kRun, "show flows --limit -1").text, HasSubstr("--limit must be a number"));
}

TEST(Parse, NamesAndKeywords_InAnyOrder) {
    EXPECT_EQ(arguments(kRun, "drain pool web member web1"), json({{"pool", "web"}, {"member", "web1"}}));
    EXPECT_EQ(arguments(kRun, "drain pool member"), json({{"pool", "member"}}));   // a required one comes first, however it is called
    EXPECT_EQ(arguments(kRun, "clear flows client \"192.0.2.0/24\" all service www"), json({{"client", "192.0.2.0/24"}, {"all", true}, {"service", "www"}}));
    EXPECT_EQ(arguments(kRun, "test service www server-name www.example.com"), json({{"name", "www"}, {"server_name", "www.example.com"}}));
}

TEST(Parse, Capture_TakesItsLimitsAndItsFilter) {
    EXPECT_EQ(arguments(kRun, "capture start"), json::object());   // control has the defaults
    EXPECT_EQ(arguments(kRun, "cap start port outside filter \"tcp port 443\" octets 1099511627776 packets 5 file a"),
              json({{"port", "outside"}, {"filter", "tcp port 443"}, {"octets", 1'099'511'627'776}, {"packets", 5}, {"file", "a"}}));
    EXPECT_EQ(arguments(kRun, "capture start secrets server-name www.example.com"), json({{"secrets", true}, {"server_name", "www.example.com"}}));
    EXPECT_THAT(fault(kRun, "capture start seconds 3601").text, HasSubstr("must be a number"));
    EXPECT_THAT(fault(kRun, "capture start filter host 192.0.2.1").text, HasSubstr("unknown word \"192.0.2.1\""));   // a filter is one word: quotes
    EXPECT_EQ(arguments(kRun, "capture stop 3"), json({{"id", 3}}));
    EXPECT_EQ(arguments(kRun, "capture read a.pcapng"), json({{"file", "a.pcapng"}}));
    EXPECT_EQ(parse(kRun, split("capture read a.pcapng | save b.pcapng"))->pipes.save, "b.pcapng");
    EXPECT_EQ(command(kRun, "show captures"), "show captures");
}

TEST(Parse, Ping_TakesAnAddress) {
    EXPECT_EQ(arguments(kRun, "ping 2001:db8::1 count 3 interval-ms 50"), json({{"address", "2001:db8::1"}, {"count", 3}, {"interval_ms", 50}}));
    EXPECT_THAT(fault(kRun, "ping").text, HasSubstr("<address> is missing"));
    EXPECT_THAT(fault(kRun, "ping 192.0.2.1 count 0").text, HasSubstr("must be a number"));
}

TEST(Parse, Commit_TakesItsWords) {
    EXPECT_EQ(arguments(kEdit, "commit confirmed 5 comment \"new pool\" and-quit"), json({{"confirmed", 5}, {"comment", "new pool"}, {"and_quit", true}}));
    EXPECT_EQ(arguments(kEdit, "commit confirmed"), json({{"confirmed", 10}}));
    EXPECT_EQ(arguments(kEdit, "commit confirmed comment x"), json({{"confirmed", 10}, {"comment", "x"}}));
    EXPECT_EQ(arguments(kEdit, "commit at-restart"), json({{"at_restart", true}}));
}

TEST(Parse, Path_TakesAllWords) {
    EXPECT_EQ(arguments(kEdit, "set services www alpn \"h2\" --x"), json({{"path", {"services", "www", "alpn", "h2", "--x"}}}));
    EXPECT_EQ(command(kRun, "show configuration services"), "show configuration");
    EXPECT_EQ(command(kRun, "show configuration history"), "show configuration history");
    EXPECT_EQ(command(kRun, "show configuration hist"), "show configuration");   // a path, and control says that there is none
    EXPECT_EQ(command(kEdit, "exit"), "exit");
    EXPECT_EQ(command(kEdit, "exit conf"), "exit configuration-mode");
}

TEST(Parse, Choice_IsAbbreviated) {
    EXPECT_EQ(arguments(kRun, "configure ex"), json({{"kind", "exclusive"}}));
    EXPECT_THAT(fault(kRun, "configure shared").text, HasSubstr("one of private, exclusive"));
}

TEST(Parse, Pipes_AreTheLinesOwn) {
    const auto parsed = parse(kRun, split("show services | match www | json | no-more"));
    ASSERT_TRUE(parsed);
    EXPECT_TRUE(parsed->pipes.json);
    EXPECT_TRUE(parsed->pipes.no_more);
    ASSERT_EQ(parsed->pipes.stages.size(), 1u);
    EXPECT_EQ(fault(kRun, "show services | mtach x").at, 16u);
}

TEST(Complete, Words_ByTheirBeginning) {
    EXPECT_THAT(next(kRun, ""), Contains("show"));
    EXPECT_THAT(next(kRun, ""), Not(Contains("set")));
    EXPECT_THAT(next(kRun, "sh"), ElementsAre("show"));
    EXPECT_THAT(next(kRun, "show s"), ElementsAre("services", "sessions"));
    EXPECT_THAT(next(kRun, "sh flows "), ElementsAre("limit", "service", "pool", "member", "client", "state", "min-age-s", "<enter>", "|"));
    EXPECT_THAT(next(kRun, "show flows limit "), ElementsAre("<number>"));
    EXPECT_THAT(next(kRun, "show flows --l"), ElementsAre("--limit"));
    EXPECT_THAT(next(kRun, "show flows limit 5 "), Not(Contains("limit")));
}

TEST(Complete, NamesOfWhatRuns) {
    EXPECT_THAT(next(kRun, "drain service "), ElementsAre("www", "mail", "<service>"));
    EXPECT_THAT(next(kRun, "drain service w"), ElementsAre("www", "<service>"));
    EXPECT_THAT(next(kRun, "drain pool web member "), ElementsAre("web1", "<member>"));
    EXPECT_THAT(next(kRun, "drain pool web "), ElementsAre("member", "<enter>", "|"));
    EXPECT_THAT(next(kRun, "configure "), ElementsAre("private", "exclusive", "<enter>", "|"));
}

TEST(Complete, Captures) {
    EXPECT_THAT(next(kRun, "capture "), ElementsAre("start", "stop", "read", "delete"));
    EXPECT_THAT(next(kRun, "capture stop "), ElementsAre("3", "<number>"));
    EXPECT_THAT(next(kRun, "capture read "), ElementsAre("a.pcapng", "b-secrets.pcapng", "<file>"));
    EXPECT_THAT(next(kRun, "capture delete b"), ElementsAre("b-secrets.pcapng", "<file>"));
    EXPECT_THAT(next(kRun, "capture start flow "), ElementsAre("00-000001-00000002", "<flow>"));
    EXPECT_THAT(next(kRun, "capture start se"), ElementsAre("seconds", "secrets", "service", "server-name"));
    EXPECT_THAT(help_text(kRun, std::vector<std::string>{"capture", "start"}), HasSubstr("Needs the role operator"));
}

TEST(Complete, Paths) {
    EXPECT_THAT(next(kEdit, "set "), ElementsAre("services", "pools"));
    EXPECT_THAT(next(kEdit, "set s"), ElementsAre("services"));
    EXPECT_THAT(next(kEdit, "set services "), ElementsAre("www", "<name>", "<enter>", "|"));
}

TEST(Complete, Run_IsAnOperationalLine) {
    EXPECT_THAT(next(kEdit, "run show s"), ElementsAre("services", "sessions"));
    FakeNames names;
    EXPECT_EQ(complete(kEdit, "run show s", names).at, 9u);
    EXPECT_THAT(next(kEdit, "run drain service "), ElementsAre("www", "mail", "<service>"));
}

TEST(Complete, Pipes) {
    EXPECT_THAT(next(kRun, "show flows | "), Contains("match"));
    EXPECT_THAT(next(kRun, "show flows | c"), ElementsAre("count", "compare"));
    EXPECT_THAT(next(kRun, "show flows | match "), ElementsAre("<regex>"));
    EXPECT_THAT(next(kRun, "show flows | match x "), ElementsAre("<enter>", "|"));
    EXPECT_THAT(next(kRun, "show flows | match x | l"), ElementsAre("last"));
}

TEST(Complete, AfterAFault_SaysIt) {
    FakeNames names;
    const Completion completion = complete(kRun, "show flwos ", names);
    ASSERT_TRUE(completion.fault);
    EXPECT_THAT(completion.fault->text, HasSubstr("did you mean \"flows\""));
    EXPECT_THAT(completion.candidates, IsEmpty());
}

TEST(Complete, Help_TakesWordsOfTheTree) {
    EXPECT_THAT(next(kRun, "help show s"), ElementsAre("services", "sessions"));
    EXPECT_THAT(next(kRun, "help drain "), ElementsAre("service", "pool", "<enter>", "|"));
}

TEST(Help, Setting_IsOfTheSchema) {
    using Path = std::vector<std::string>;
    EXPECT_THAT(setting_text(Path{"policy", "level"}), HasSubstr("1 to 3"));
    EXPECT_THAT(setting_text(Path{"services", "www", "idle_timeout_s"}), HasSubstr("default"));
    EXPECT_THAT(setting_text(Path{}), HasSubstr("services"));
    EXPECT_EQ(setting_text(Path{"polcy"}), "");
    std::vector<std::string> words;
    for (const Candidate& each : settings_below(Path{"policy"})) words.push_back(each.word);
    EXPECT_THAT(words, ElementsAre("level", "waivers"));
}

}  // namespace
}  // namespace sallyport::cli
