#include "control/telemetry/flow_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sallyport::telemetry {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

FlowRecord whole() {
    FlowRecord record;
    record.id = "00-000001-00000007";
    record.service = "www";
    record.ended = std::chrono::system_clock::time_point(1'800'000'000'500ms);
    record.duration = 1500ms;
    record.local = "192.0.2.10:443";
    record.client = {.peer = "198.51.100.7:50000", .version = 0x0304, .suite = 0x1302, .group = 0x11ec, .alpn = "h2", .server_name = "protected", .octets_in = 10, .octets_out = 20, .handshake = 3ms};
    record.ech = "accepted";
    record.client_identity = "CN=somebody";
    record.pool = "web";
    record.member = "web1";
    record.anchor = "CN=Internal";
    record.attempts = 2;
    record.backend = {.peer = "203.0.113.4:443", .version = 0x0303, .suite = 0xc02f, .group = 0x001d, .resumed = true, .octets_in = 20, .octets_out = 10};
    record.reason = "finished";
    record.sentence = "both sides closed in order";
    return record;
}

TEST(FlowRecord, Whole_SaysAll) {
    EXPECT_EQ(to_json(whole()),
              R"({"kind":"flow","flow":"00-000001-00000007","service":"www","began":"2027-01-15T07:59:59.000Z","ended":"2027-01-15T08:00:00.500Z",)"
              R"("duration_s":1.5,"local":"192.0.2.10:443","client":{"address":"198.51.100.7:50000","tls":"TLS 1.3","suite":"TLS_AES_256_GCM_SHA384",)"
              R"("group":"X25519MLKEM768","resumed":false,"alpn":"h2","server_name":"protected","handshake_s":0.003,"octets_in":10,"octets_out":20,)"
              R"("ech":"accepted","identity":"CN=somebody"},"backend":{"address":"203.0.113.4:443","tls":"TLS 1.2",)"
              R"("suite":"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256","group":"x25519","resumed":true,"octets_in":20,"octets_out":10,"pool":"web",)"
              R"("member":"web1","anchor":"CN=Internal","attempts":2},"reason":"finished","text":"both sides closed in order"})");
}

TEST(FlowRecord, Unfinished_LeavesOutWhatIsNotKnown) {
    FlowRecord record;
    record.id = "x";
    record.reason = "client_not_tls";
    const auto json = nlohmann::json::parse(to_json(record));
    EXPECT_FALSE(json.contains("backend"));
    EXPECT_FALSE(json["client"].contains("tls"));
    EXPECT_FALSE(json["client"].contains("ech"));
    EXPECT_FALSE(json["client"].contains("handshake_s"));
}

/// Whatever a peer puts into its names: one line, valid JSON, valid UTF-8, nothing that a terminal acts on.
TEST(FlowRecord, HostileStrings_CannotForgeALine) {
    FlowRecord record = whole();
    record.client.server_name = "a\n{\"flow\":\"forged\"}\r\n\x1b[2J\"\\";
    record.client.alpn = std::string("\0\xff\xc0\x80\xed\xa0\x80", 7);
    record.client_identity = std::string(5000, '"');
    const std::string line = to_json(record);
    EXPECT_THAT(line, Not(HasSubstr("\n")));
    EXPECT_THAT(line, Not(HasSubstr("\r")));
    EXPECT_THAT(line, Not(HasSubstr("\x1b")));
    const auto json = nlohmann::json::parse(line);   // throws for what is not UTF-8
    EXPECT_EQ(json["client"]["server_name"], record.client.server_name);
    EXPECT_EQ(json["flow"], record.id);
}

TEST(FlowRecord, UnknownNumbers_AreShownAsSuch) {
    FlowRecord record = whole();
    record.client.suite = 0x1399;
    record.client.group = 0x7777;
    const auto json = nlohmann::json::parse(to_json(record));
    EXPECT_EQ(json["client"]["suite"], "0x1399");
    EXPECT_EQ(json["client"]["group"], "0x7777");
}

}  // namespace
}  // namespace sallyport::telemetry
