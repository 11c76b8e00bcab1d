#include "control/configuration/document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>

#include "tests/unit/control/configuration/dump.h"

namespace sallyport::configuration {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Words = std::vector<std::string>;

Document parsed(const std::string& text) {
    auto document = Document::parse(text);
    EXPECT_TRUE(document) << text << (document ? "" : document.error().to_string());
    return document ? *document : Document();
}

Words words(const std::string& line) { return *split_words(line); }

std::string after(Document document, const std::string& command) {
    Words path = words(command);
    const std::string verb = path.front();
    path.erase(path.begin());
    const auto done = verb == "set" ? document.set(path) : document.remove(path);
    EXPECT_TRUE(done) << command << ": " << (done ? "" : done.error().text);
    return document.text();
}

std::string refusal(Document document, const std::string& command) {
    Words path = words(command);
    const std::string verb = path.front();
    path.erase(path.begin());
    const std::string before = document.text();
    const auto done = verb == "set" ? document.set(path) : document.remove(path);
    EXPECT_FALSE(done) << command << "\n" << document.text();
    EXPECT_EQ(document.text(), before);
    return done ? "" : done.error().code + ": " + done.error().text;
}

// --- the same as libconfig

TEST(DocumentParse, WhatLibconfigTakes_IsTakenAlike) {
    for (const char* text :
         {"", "x=1", "x=1e5;", "x=-1e5;", "x=1.e5", "x=.", "x=-.", "x=010", "x=-010", "x=010L", "x=99999999999", "x=0x1F", "x=0xFFFFFFFF",
          "x=0x1FFFFFFFFL", "x=0x1FFFFFFFF", "x=1L", "x=1LL", "x=-99999999999L", "x=99999999999999999999L", "x=5 y=6", "x=5,y=6", "x=(1,,2)",
          "x=(1,2,)", "x=[1,]", "x=[1,,]", "x=[1,0x2]", "x=[\"a\" \"b\",\"c\"]", "x=\"\\a\\b\\v\\q\\x41\\x4g\"", "x=\"a\nb\"", "x=1 # c",
          "x=1 // c", "x=1 /* c", "x=1; \"abc", "x=1 /* a */ y=2", "truex=1", "*a=1", "a-b=1", "x=True", "x=TRUE", "x=((1),[2],{a=3})",
          "x=1\r\ny=2\f", "x=+5", "x=1y=2", "x=\"a\" /*c*/ \"b\"", "x={}", "x={a=1}y=2", "x=\"\\x00b\"", "x=\"a\\x00b\" \"c\"", "x=.e5",
          "x=12a=3", "/**/x=1", "x=1 /* a ** b **/", "x=1e+5", "x=+1e5", "x:{a:1,b:\"c\"}", "x=()", "x=[ ];", "x=(1.5,2,\"a\",true)",
          "x=0", "x=00", "x=1.5", "x=2147483648", "x=-2147483649", "x=0777", "x=({a=1},{b=2})", "x=\"\\\\\\\"\\n\\r\\t\\f\""}) {
        EXPECT_EQ(by_document(text), by_libconfig(text)) << text;
        EXPECT_FALSE(by_document(text).starts_with("refused")) << text;
    }
}

TEST(DocumentParse, WhatLibconfigRefuses_IsRefusedWithItsLine) {
    for (const char* text :
         {"x=09", "x=99999999999999999999", "x=5;;", "x=(,1)", "x=[1,99999999999]", "x=[1,2L]", "x=\"abc", "true=1", "x=t", "x=[(1)]", "x=-0x5",
          "x=0x", "x=1.5.5", "x=[true,1]", "x=1;x=2", "x=", "x", "x=1e", "x=1.0e", "x=--1", "x=1L2", "x=-", "x=\v1", "x=0xg", "x=[1.0,2]",
          "x=(1 2)", "x=({a=1;} {b=2;})", "x=\"\\", "x=[\"a\",1]", "\xef\xbb\xbfx=1", "x=1; @include \"a\"", "{x=1}", "x={", "x=(", "=1", "x=}"}) {
        EXPECT_EQ(by_document(text), by_libconfig(text)) << text;
    }
    const auto refused = Document::parse("a = 1;\n\nb = ( 1,\n  2;\n);\n", "x.conf");
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().to_string(), testing::StartsWith("x.conf:4: syntax error; NAME = VALUE;"));
    EXPECT_THAT(Document::parse("a = 1;\na = 2;", "x.conf").error().to_string(), HasSubstr("x.conf:2: duplicate setting name; each setting once"));
}

TEST(DocumentParse, Include_StandsForSettingsItemsOrAValue) {
    for (const char* text : {"@include \"a\"\nx = 1;", "x = (\n@include \"a\"\n);", "x = (\n { a = 1; },\n\t@include \"a\"\n, { b = 2; } );", "x =\n@include \"a\"\n;",
                             "x = {\n@include \"a \\\" b\"\n};", "x = (\n@include \"a\"\n { } );"})
        EXPECT_TRUE(Document::parse(text)) << text;
    EXPECT_FALSE(Document::parse("x = 1;@include \"a\""));
}

TEST(DocumentParse, NestedDeep_IsRefusedNotRecursedInto) {
    const auto nested = [](std::size_t depth) { return "x=" + std::string(depth, '(') + std::string(depth, ')'); };
    EXPECT_TRUE(Document::parse(nested(Document::kMaxNesting)));
    EXPECT_FALSE(Document::parse(nested(Document::kMaxNesting + 1)));
    EXPECT_FALSE(Document::parse(nested(1'000'000)));
}

// --- editing

const char* const kText = R"(# The site.
policy = { level = 2; };

pools = (
    {
        name = "web";
        balance = "least_connections";    // or "round_robin"
        tls: {
            trust = [ "ca.pem" ];         # the internal one
            server_name = "web.internal";
        };
        # Two of them.
        members = (
            { name = "web1"; address = "198.51.100.11:443"; weight = 2; },
            { address = "198.51.100.12:443"; }    # the old one
        );
        # connect_timeout_ms = 3000;
    }
);
services = (
    {
        name = "www";
        listen = [ "192.0.2.10:443" ];
        pool = "web";
    }    // the only one
);
brake = {
    # handshakes = 8192;
};
log = { };
)";

TEST(DocumentSet, WrittenValue_IsReplacedAndNothingElse) {
    EXPECT_EQ(after(parsed("log = { level /*a*/ = /*b*/ \"in\" \"fo\" /*c*/ ; }; # d\n"), "set log level debug"),
              "log = { level /*a*/ = /*b*/ \"debug\" /*c*/ ; }; # d\n");
    EXPECT_EQ(after(parsed("policy:{level:0x2}"), "set policy level 2"), "policy:{level:2}");   // the reader takes no hexadecimal numbers
    EXPECT_EQ(after(parsed("policy:{level:2}"), "set policy level 2"), "policy:{level:2}");
}

TEST(DocumentSet, NewSetting_FollowsTheLastInItsManner) {
    EXPECT_THAT(after(parsed(kText), "set services www idle_timeout_s 600"),
                HasSubstr("        pool = \"web\";\n        idle_timeout_s = 600;\n    }    // the only one\n"));
    EXPECT_THAT(after(parsed(kText), "set policy waivers 9.4.3 \"service www\" reason \"no OCSP\""),
                HasSubstr("policy = { level = 2; waivers = ( { requirement = \"9.4.3\"; object = \"service www\"; reason = \"no OCSP\"; } ); };\n"));
    EXPECT_THAT(after(parsed(kText), "set pools web health interval_ms 500"), HasSubstr("        );\n        health: { interval_ms = 500; };\n        # connect_timeout_ms"));
    EXPECT_THAT(after(parsed(kText), "set brake burst 9000"), HasSubstr("    # handshakes = 8192;\n    burst = 9000;\n};\n"));
    EXPECT_THAT(after(parsed(kText), "set log level debug"), HasSubstr("log = { level = \"debug\"; };\n"));
    EXPECT_THAT(after(parsed(kText), "set tickets period_s 60"), testing::EndsWith("log = { };\ntickets = { period_s = 60; };\n"));
    EXPECT_EQ(after(parsed(""), "set log level debug"), "log = { level = \"debug\"; };\n");
    EXPECT_EQ(after(parsed("# c"), "set log level debug"), "# c\nlog = { level = \"debug\"; };\n");
    EXPECT_EQ(after(parsed("# c\n/* open"), "set log level debug"), "# c\nlog = { level = \"debug\"; };\n/* open");
    EXPECT_EQ(after(parsed("policy={level=1}"), "set log level info"), "policy={level=1};\nlog={ level = \"info\"; };");
}

TEST(DocumentSet, Members_AreAddedAndFoundByNameOrAddress) {
    EXPECT_THAT(after(parsed(kText), "set pools web members web1 drain true"), HasSubstr("weight = 2; drain = true; },\n"));
    EXPECT_THAT(after(parsed(kText), "set pools web members 198.51.100.11:443 weight 3"), HasSubstr("weight = 3; },\n"));
    EXPECT_THAT(after(parsed(kText), "set pools web members 198.51.100.12:443 weight 3"), HasSubstr("{ address = \"198.51.100.12:443\"; weight = 3; }    # the old one\n"));
    EXPECT_THAT(after(parsed(kText), "set pools web members 198.51.100.13:443"),
                HasSubstr("{ address = \"198.51.100.12:443\"; },    # the old one\n            { address = \"198.51.100.13:443\"; }\n        );\n"));
    EXPECT_THAT(after(parsed(kText), "set pools web members web3 address 198.51.100.13:443"), HasSubstr("{ name = \"web3\"; address = \"198.51.100.13:443\"; }\n"));
    EXPECT_THAT(after(parsed(kText), "set pools web members [1] weight 9"), HasSubstr("198.51.100.12:443\"; weight = 9; }"));
    EXPECT_THAT(after(parsed(kText), "set pools web members web1 name web9"), HasSubstr("{ name = \"web9\"; address"));
}

TEST(DocumentSet, ElementsOfAListWrittenInLines_GetLines) {
    EXPECT_THAT(after(parsed(kText), "set services mail listen 192.0.2.10:993 [2001:db8::1]:993"),
                HasSubstr("    },    // the only one\n    {\n        name = \"mail\";\n        listen = [ \"192.0.2.10:993\", \"[2001:db8::1]:993\" ];\n    }\n);\n"));
    EXPECT_EQ(after(parsed(""), "set redirects http listen 192.0.2.10:80"), "redirects = (\n    { name = \"http\"; listen = [ \"192.0.2.10:80\" ]; }\n);\n");
    EXPECT_EQ(after(parsed(""), "set services www"), "services = (\n    {\n        name = \"www\";\n    }\n);\n");
}

TEST(DocumentSet, ArrayValues_AreAddedOnce) {
    EXPECT_THAT(after(parsed(kText), "set services www listen 192.0.2.10:443 192.0.2.11:443"), HasSubstr("listen = [ \"192.0.2.10:443\", \"192.0.2.11:443\" ];"));
    EXPECT_EQ(after(parsed("dataplane={cores=[\n 1, # a\n 2  # b\n];}"), "set dataplane cores 3"), "dataplane={cores=[\n 1, # a\n 2,  # b\n 3\n];}");
    EXPECT_EQ(after(parsed("dataplane={cores=[ ];}"), "set dataplane cores 3"), "dataplane={cores=[ 3 ];}");
    EXPECT_EQ(after(parsed("dataplane={cores=[1,];}"), "set dataplane cores 3"), "dataplane={cores=[1, 3];}");
    EXPECT_EQ(after(parsed("dataplane={cores=(1);}"), "set dataplane cores 3 3"), "dataplane={cores=(1, 3);}");
    EXPECT_EQ(after(parsed(""), "set dataplane eal_arguments"), "dataplane = { eal_arguments = [ ]; };\n");
}

TEST(DocumentSet, BadWords_AreToldWhatWouldBeRight) {
    EXPECT_EQ(refusal(parsed(kText), "set services www idle_timeuot_s 600"), "bad_path: services www idle_timeuot_s: there is no such setting; probably idle_timeout_s");
    EXPECT_THAT(refusal(parsed(kText), "set servces"), HasSubstr("probably services"));
    EXPECT_THAT(refusal(parsed(kText), "set policy level 4"), HasSubstr("bad_value: policy level = \"4\": is too large; 1 to 3"));
    EXPECT_THAT(refusal(parsed(kText), "set policy level two"), HasSubstr("is no decimal number; 1 to 3"));
    EXPECT_THAT(refusal(parsed(kText), "set policy level"), HasSubstr("a value is missing; level of OWASP"));
    EXPECT_THAT(refusal(parsed(kText), "set pools web balance round_robbin"), HasSubstr("is not known (is \"round_robin\" meant?); one of round_robin or least_connections"));
    EXPECT_THAT(refusal(parsed(kText), "set pools web proxy_protocol yes"), HasSubstr("true or false"));
    EXPECT_THAT(refusal(parsed(kText), "set services"), HasSubstr("which one? there are www"));
    EXPECT_THAT(refusal(parsed(kText), "set policy waivers 9.4.3"), HasSubstr("names its elements by requirement and object"));
    EXPECT_THAT(refusal(parsed("log = 1;"), "set log level info"), HasSubstr("log is an integer at line 1; delete it first"));
    EXPECT_THAT(refusal(parsed("pools = ( { name = \"a\"; }, { name = \"a\"; } );"), "set pools a balance round_robin"), HasSubstr("is there 2 times"));
    EXPECT_THAT(refusal(parsed(kText), "set pools web name \"\""), HasSubstr("is empty"));
}

TEST(DocumentDelete, TakesLinesOutAndLeavesCommentsOfTheirOwn) {
    EXPECT_THAT(after(parsed(kText), "delete pools web balance"), HasSubstr("        name = \"web\";\n        tls: {\n"));
    EXPECT_THAT(after(parsed(kText), "delete pools web members"), HasSubstr("        };\n        # Two of them.\n        # connect_timeout_ms = 3000;\n    }\n"));
    EXPECT_THAT(after(parsed(kText), "delete pools web members 198.51.100.12:443"), HasSubstr("weight = 2; }\n        );\n"));
    EXPECT_THAT(after(parsed(kText), "delete pools web members web1"), HasSubstr("        members = (\n            { address = \"198.51.100.12:443\"; }    # the old one\n        );\n"));
    EXPECT_THAT(after(parsed(kText), "delete pools web members web1 weight"), HasSubstr("address = \"198.51.100.11:443\"; },\n"));
    EXPECT_THAT(after(parsed(kText), "delete policy level"), HasSubstr("policy = { };\n"));
    EXPECT_THAT(after(parsed(kText), "delete services"), HasSubstr(");\nbrake"));
    EXPECT_EQ(after(parsed("policy={level=1 waivers=();}"), "delete policy level"), "policy={ waivers=();}");
    EXPECT_EQ(after(parsed("a={};log={};b={};"), "delete log"), "a={};b={};");
    EXPECT_EQ(after(parsed("dataplane={cores=[1,2,3];}"), "delete dataplane cores 2"), "dataplane={cores=[1,3];}");
    EXPECT_EQ(after(parsed("dataplane={cores=[1,2,3];}"), "delete dataplane cores 3 1"), "dataplane={cores=[2];}");
    EXPECT_EQ(after(parsed("dataplane={cores=[ 1 ];}"), "delete dataplane cores 1"), "dataplane={cores=[ ];}");
    EXPECT_THAT(refusal(parsed(kText), "delete services mail"), HasSubstr("bad_path: services mail is not there; there are www"));
    EXPECT_THAT(refusal(parsed(kText), "delete services www listen 1.2.3.4:5"), HasSubstr("has no 1.2.3.4:5"));
    EXPECT_THAT(refusal(parsed(kText), "delete services www pool mail"), HasSubstr("services www pool is web, not mail"));
}

TEST(DocumentShow, PathAsTextAndAsSetLines) {
    const Document document = parsed(kText);
    EXPECT_EQ(*document.show(words("services www pool")), "        pool = \"web\";\n");
    EXPECT_EQ(*document.show(words("policy level")), "level = 2;\n");
    EXPECT_EQ(*document.show({}), kText);
    EXPECT_EQ(*document.show(words("tickets")), "");
    EXPECT_EQ(*document.show_set(words("pools web")), R"(set pools web name web
set pools web balance least_connections
set pools web tls trust ca.pem
set pools web tls server_name web.internal
set pools web members web1 name web1
set pools web members web1 address 198.51.100.11:443
set pools web members web1 weight 2
set pools web members 198.51.100.12:443 address 198.51.100.12:443
)");
    EXPECT_EQ(*document.show_set(words("log")), "set log\n");
}

TEST(DocumentComplete, NamesWhatCanComeNext) {
    const Document document = parsed(kText);
    const auto next = [&](const std::string& line) {
        Words found;
        const auto completions = document.complete(words(line));
        for (const Completion& each : *completions) found.push_back(each.word + ":" + each.kind);
        return found;
    };
    EXPECT_THAT(next(""), testing::Contains("services:list"));
    EXPECT_THAT(next("services"), ElementsAre("www:element", "NAME:new"));
    EXPECT_THAT(next("services www pool"), ElementsAre("web:value", "POOL:placeholder"));
    EXPECT_THAT(next("pools web members"), ElementsAre("web1:element", "198.51.100.12:443:element", "NAME:new"));
    EXPECT_THAT(next("pools web balance"), ElementsAre("round_robin:value", "least_connections:value"));
    EXPECT_THAT(next("pools web proxy_protocol"), ElementsAre("true:value", "false:value"));
    EXPECT_THAT(next("services www listen"), ElementsAre("192.0.2.10:443:value", "LISTEN:placeholder"));
    EXPECT_THAT(next("policy waivers"), ElementsAre("REQUIREMENT:new"));
    EXPECT_THAT(next("policy waivers 9.4.3"), ElementsAre("OBJECT:new"));
    EXPECT_FALSE(document.complete(words("servces")));
}

TEST(DocumentWords, AreQuotedSoThatTheyComeBack) {
    for (const std::string word : {"a", "a b", "", "a\"b", "a\\b", "[::1]:443", "#a", "'"}) EXPECT_THAT(words("x " + quoted_word(word)), ElementsAre("x", word));
    EXPECT_FALSE(split_words("a \"b"));
}

/// Whatever is edited in whatever order: libconfig reads the text as the document does, what was set is there, what was not touched
/// stays, and the lines of `set` make the same again.
TEST(DocumentProperty, RandomEdits_ReadTheSameByLibconfig) {
    std::ifstream stream(SALLYPORT_CONFIGURATION_EXAMPLE, std::ios::binary);
    const std::string example{std::istreambuf_iterator<char>(stream), {}};
    const std::vector<std::string> sources{example, kText, "", "pools=({name=\"web\",members=({address=\"1.2.3.4:5\"})})services=()", "/* a */ log : { level : \"info\" }\r\n"};
    const std::vector<std::string> commands{
        "set services www idle_timeout_s 600", "delete services www idle_timeout_s", "set services www listen 192.0.2.10:443", "set services www listen [2001:db8::1]:443",
        "delete services www listen 192.0.2.10:443", "set services mail pool web", "delete services mail", "delete services www", "delete services", "set pools web balance round_robin",
        "set pools web members web1 weight 3", "set pools web members web3 address 198.51.100.13:443", "set pools web members 198.51.100.14:443 drain true", "delete pools web members web1",
        "delete pools web members web3", "delete pools web members 198.51.100.14:443", "delete pools web members", "set pools web tls server_name \"a \\\" b \\\\\"", "delete pools web tls",
        "set pools web health interval_ms 400", "delete pools web health", "set policy level 1", "delete policy level", "set policy waivers 9.4.3 \"service www\" until 2027-01-01",
        "delete policy waivers 9.4.3 \"service www\"", "set dataplane cores 1 2 3", "delete dataplane cores 2", "delete dataplane cores 1", "delete dataplane", "set log level debug", "delete log",
        "set brake", "set brake burst 5", "delete brake", "set redirects http listen 192.0.2.10:80", "set redirects https listen 192.0.2.10:81", "delete redirects http", "delete redirects",
        "set ports outside routes 0.0.0.0/0 via 192.0.2.1", "delete ports outside routes 0.0.0.0/0", "set services www certificates a.pem key a.key", "delete services www certificates a.pem",
        "set services www client_auth trust a.pem b.pem", "delete services www client_auth trust a.pem", "set dataplane hugepages false", "set services www ech public_name a.example"};
    for (unsigned seed = 0; seed < 400; ++seed) {
        std::mt19937 random(seed);
        Document document = parsed(sources[random() % sources.size()]);
        for (int step = 0; step < 25; ++step) {
            const std::string command = commands[random() % commands.size()];
            Words path = words(command);
            const bool sets = path.front() == "set";
            path.erase(path.begin());
            const std::string before = document.text();
            const auto done = sets ? document.set(path) : document.remove(path);
            ASSERT_EQ(dump(document.root()), by_libconfig(document.text())) << "seed " << seed << ": " << command << "\n" << before << "\n---\n" << document.text();
            if (!done) {
                ASSERT_EQ(document.text(), before);
                continue;
            }
            // Comments on lines of their own and octets that the edit does not concern are there.
            ASSERT_GE(std::ranges::count(document.text(), '#') + 1, std::ranges::count(before, '#') - (sets ? 1 : 1000));
            if (sets && path.size() > 2) {
                auto again = document;
                ASSERT_TRUE(again.set(path));
                ASSERT_EQ(again.text(), document.text()) << "seed " << seed << ": " << command;
            }
        }
        Document made;
        std::istringstream lines(*document.show_set({}));
        for (std::string line; std::getline(lines, line);) {
            Words path = words(line);
            path.erase(path.begin());
            const auto done = made.set(path);
            ASSERT_TRUE(done) << "seed " << seed << ": " << line << ": " << done.error().text;
        }
        const auto sorted = [](std::vector<Document::Entry> entries) {
            std::ranges::sort(entries, {}, &Document::Entry::path);
            return entries;
        };
        const auto wanted = sorted(document.entries()), got = sorted(made.entries());
        // Empty lists leave no line; everything else does.
        ASSERT_TRUE(wanted == got) << "seed " << seed << "\n" << document.text() << "\n---\n" << made.text();
        ASSERT_EQ(dump(made.root()), by_libconfig(made.text()));
    }
}

}  // namespace
}  // namespace sallyport::configuration
