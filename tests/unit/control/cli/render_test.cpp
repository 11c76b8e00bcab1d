#include "control/cli/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sallyport::cli {
namespace {

using namespace sallyport::management;
using testing::HasSubstr;

TEST(Units, Octets_HaveThreeSignificantDigits) {
    EXPECT_EQ(octets(0), "0 B");
    EXPECT_EQ(octets(999), "999 B");
    EXPECT_EQ(octets(1000), "1.00 kB");
    EXPECT_EQ(octets(1500), "1.50 kB");
    EXPECT_EQ(octets(9'994), "9.99 kB");
    EXPECT_EQ(octets(9'996), "10.0 kB");
    EXPECT_EQ(octets(99'960), "100 kB");
    EXPECT_EQ(octets(999'499), "999 kB");
    EXPECT_EQ(octets(999'500), "1.00 MB");
    EXPECT_EQ(octets(1'500'000'000), "1.50 GB");
    EXPECT_EQ(octets(0xffff'ffff'ffff'ffff), "18.4 EB");
    EXPECT_EQ(quantity(12'345), "12.3 k");
}

TEST(Units, Duration_IsWrittenOut) {
    EXPECT_EQ(duration(0), "0 ns");
    EXPECT_EQ(duration(1'500), "1.50 us");
    EXPECT_EQ(duration(12'300'000), "12.3 ms");
    EXPECT_EQ(duration(59'900'000'000), "59.9 s");
    EXPECT_EQ(duration(60'000'000'000), "1 min 0 s");
    EXPECT_EQ(duration(3'599'999'999'999), "59 min 59 s");
    EXPECT_EQ(duration(7'440'000'000'000), "2 h 4 min");
    EXPECT_EQ(duration(284'400'000'000'000), "3 d 7 h");
}

TEST(Printable, ControlCharacters_AreEscaped) {
    EXPECT_EQ(printable("a\x1b[2J\n\x7f"), "a\\x1b[2J\\x0a\\x7f");
    EXPECT_EQ(printable("\xc2\x9b"
                        "2J"),
              "\\xc2\\x9b2J");  // U+009B, CSI
    EXPECT_EQ(printable("Zürich"), "Zürich");
}

TEST(Render, Version) {
    VersionView version{.version = "0.1.0",
                        .openssl = "OpenSSL 4.0.3",
                        .dpdk = "",
                        .ipsec_mb = "",
                        .started = "2026-11-03T14:05:09Z",
                        .uptime_ns = 7'440'000'000'000,
                        .control_pid = 12,
                        .dataplane_pid = 0,
                        .dataplane_attached = false,
                        .dataplane_attached_at = "",
                        .configuration = "/etc/sallyport/sallyport.conf",
                        .generation = 1,
                        .configuration_loaded = "2026-11-03T14:05:09Z",
                        .policy_level = 2,
                        .eal = ""};
    EXPECT_EQ(render_text(version),
              "Sallyport         0.1.0\n"
              "OpenSSL           OpenSSL 4.0.3\n"
              "control           process 12, since 2026-11-03T14:05:09Z (2 h 4 min)\n"
              "dataplane         not attached: no new connections are served\n"
              "configuration     /etc/sallyport/sallyport.conf, generation 1, loaded 2026-11-03T14:05:09Z\n"
              "policy            OWASP V9 level 2\n");
    version.dataplane_attached = true;
    version.dataplane_pid = 13;
    version.dataplane_attached_at = "2026-11-03T14:05:10Z";
    EXPECT_THAT(render_text(version), HasSubstr("dataplane         process 13, attached since 2026-11-03T14:05:10Z\n"));
}

TEST(Render, Ports) {
    PortView port;
    port.name = "client";
    port.profile = "af_packet";
    port.driver = "net_af_packet";
    port.device = "sp-client";
    port.mac = "02:00:00:00:00:01";
    port.link = true;
    port.mbps = 10000;
    port.mtu = 1500;
    port.receive_queues = port.transmit_queues = 1;
    port.addresses = {"192.0.2.1/24", "2001:db8::1/64"};
    port.packets_in = 1234;
    port.octets_in = 1'500'000;
    port.errors_in = 1;
    port.errors_out = 2;
    port.offloads = {{"receive TCP checksum", true, false}, {"RSS", true, true}, {"TSO", false, true}};
    EXPECT_EQ(render_text(std::vector{port}),
              "port    profile    device     link  speed       mtu  queues       mac                packets in  "
              "packets out  octets in"
              "  octets out  missed  errors  no buffer\n"
              "client  af_packet  sp-client  up    10 Gbit/s  1500  1 in, 1 out  02:00:00:00:00:01      1.23 k         "
              "   0    1.50 MB"
              "         0 B       0       3          0\n"
              "\n"
              "client (net_af_packet)\n"
              "  addresses       192.0.2.1/24, 2001:db8::1/64\n"
              "  in the device   RSS\n"
              "  in software     receive TCP checksum\n");
    EXPECT_EQ(render_text(std::vector<PortView>{}), "There are no ports.\n");
}

TEST(Render, Services) {
    ServiceView service;
    service.name = "web";
    service.listen = {"192.0.2.1:443", "[2001:db8::1]:443"};
    service.pool = "nginx";
    service.alpn = {"h2", "http/1.1"};
    service.versions = {"TLS 1.3", "TLS 1.2"};
    CertificateView certificate;
    certificate.names = {"www.example.com", "example.com"};
    certificate.key = "ECDSA P-256";
    certificate.not_after = "2026-12-31T00:00:00Z";
    service.certificates = {certificate};
    service.flows_now = 3;
    service.flows_total = 12'345;
    service.handshakes_done = 12'000;
    service.by_version = {{"TLS 1.3", 11'000}, {"TLS 1.2", 1'000}};
    EXPECT_EQ(render_text(std::vector{service}),
              "service  pool   flows now   flows  handshakes  failed  resumed\n"
              "web      nginx          3  12.3 k      12.0 k       0        0\n"
              "\n"
              "web\n"
              "  listens on      192.0.2.1:443, [2001:db8::1]:443\n"
              "  versions        TLS 1.3, TLS 1.2\n"
              "  ALPN            h2, http/1.1\n"
              "  certificate     www.example.com example.com, ECDSA P-256, valid until 2026-12-31T00:00:00Z\n"
              "  by version      TLS 1.3 11000, TLS 1.2 1000\n");
}

TEST(Render, Pools) {
    PoolView pool;
    pool.name = "nginx";
    pool.tls = true;
    pool.server_name = "backend.internal";
    pool.balance = "round_robin";
    MemberView up, down;
    up.name = up.address = "198.51.100.2:443";
    up.state = "up";
    up.flows_now = 2;
    down.name = "b";
    down.address = "198.51.100.3:443";
    down.state = "down";
    down.why = "connection refused";
    down.failures = 3;
    down.last_check = "2026-11-03T14:05:09Z";
    pool.members = {up, down};
    EXPECT_EQ(
        render_text(std::vector{pool}),
        "nginx: TLS to backend.internal, round_robin\n"
        "member            address           state  weight  flows now  flows  failures  last check            why\n"
        "198.51.100.2:443  198.51.100.2:443  up          1          2      0         0  -                     -\n"
        "b                 198.51.100.3:443  down        1          0      0         3  2026-11-03T14:05:09Z  "
        "connection refused\n");
}

TEST(Render, Flows) {
    FlowView flow;
    flow.client = "192.0.2.9:40000";
    flow.service = "web";
    flow.state = "open";
    flow.version = "TLS 1.3";
    flow.suite = "TLS_AES_128_GCM_SHA256";
    flow.group = "X25519MLKEM768";
    flow.server_name = "a\x1b[0m";
    flow.resumed = true;
    flow.member = "b1";
    flow.backend_tls = true;
    flow.backend_version = "TLS 1.3";
    flow.backend_suite = "TLS_AES_256_GCM_SHA384";
    flow.client_in = 100;
    flow.client_out = 2'000'000;
    flow.backend_in = 2'000'000;
    flow.backend_out = 100;
    flow.age_ns = 1'500'000'000;
    FlowsView view{.flows = {flow}, .total = 5};
    EXPECT_EQ(render_text(view),
              "client           service  state  version          suite                   group           server name  "
              "member  "
              "backend                         from client  to client  from backend  to backend     age\n"
              "192.0.2.9:40000  web      open   TLS 1.3 resumed  TLS_AES_128_GCM_SHA256  X25519MLKEM768  a\\x1b[0m     "
              "b1      "
              "TLS 1.3 TLS_AES_256_GCM_SHA384        100 B    2.00 MB       2.00 MB       100 B  1.50 s\n"
              "1 of 5 flows are shown; --limit N shows more, --limit 0 all.\n");
    view.flows[0].backend_tls = false;
    view.total = 1;
    EXPECT_THAT(render_text(view), HasSubstr("  plain text  "));
    EXPECT_EQ(render_text(FlowsView{}), "There are no flows.\n");
}

TEST(Render, Counters_ByGroupWithoutZeroes) {
    const std::vector<CounterView> counters = {{"tcp_bad_checksum", "drops", "TCP checksum wrong", 12, ""},
                                               {"no_route", "drops", "no route to the destination", 0, ""},
                                               {"finished", "flows ended", "both sides closed in order", 123456, ""}};
    EXPECT_EQ(render_text(counters, false),
              "drops\n"
              "value  counter           what it counts\n"
              "   12  tcp_bad_checksum  TCP checksum wrong\n"
              "\n"
              "flows ended\n"
              " value  counter   what it counts\n"
              "123456  finished  both sides closed in order\n");
    EXPECT_THAT(render_text(counters, true), HasSubstr("    0  no_route          no route to the destination\n"));
    EXPECT_EQ(render_text(std::span(counters).subspan(1, 1), false), "Every counter is 0; --all shows them.\n");
}

TEST(Render, Workers_ShowTimesInsteadOfCycles) {
    WorkerView worker;
    worker.index = 1;
    worker.core = 3;
    worker.busy_share = 0.1234;
    worker.tsc_hz = 2'000'000'000;
    worker.cycles_per_packet = 500;
    worker.cycles_per_octet = 1.5;
    worker.interrupted = 4;
    worker.packets_in = 10;
    worker.pool_free = 100;
    worker.pool_size = 128;
    worker.sampled = "2026-11-03T14:05:09Z";
    EXPECT_EQ(render_text(std::vector{worker}),
              "worker  core    busy  interrupted  packets in  packets out  time/packet  time/kB  flows  connections  half open  "
              "buffers held"
              "  buffers free  buffers  lane used  records opened  sealed  failed\n"
              "     1     3  12.3 %            4          10            0       250 ns   750 ns      0            0          0      "
              "       0"
              "           100      128      0.0 %               0       0       0\n"
              "Read at 2026-11-03T14:05:09Z.\n");
}

TEST(Render, Neighbours) {
    const std::vector<NeighbourView> neighbours = {{"192.0.2.9", "02:00:00:00:00:09", "client", "REACHABLE", 0},
                                                   {"2001:db8::9", "", "client", "INCOMPLETE", 1}};
    EXPECT_EQ(render_text(neighbours),
              "address      mac                port    state       worker\n"
              "192.0.2.9    02:00:00:00:00:09  client  REACHABLE        0\n"
              "2001:db8::9  -                  client  INCOMPLETE       1\n");
}

}  // namespace
}  // namespace sallyport::cli
