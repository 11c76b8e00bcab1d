// Streams of records and of anything else into an open flow, from both sides. Whatever comes: what one side receives is what the other
// sent, from the front on; and everything ends, with all memory given back. First octet: suites. Then operations, see below.
#include <cstdlib>
#include <iostream>

#include "input.h"
#include "tests/unit/dataplane/flow/world.h"

using namespace sallyport;
using namespace sallyport::flow::test;

namespace {

void check(bool good, const char* what) {
    if (good) return;
    std::cerr << what << '\n';
    std::abort();
}

struct Sender {
    Peer* peer;
    Octets sent;   ///< application data
    bool broken = false;
};

void operate(World& world, Sender& sender, std::uint8_t what, Input& input) {
    Peer& peer = *sender.peer;
    if (peer.gone() || peer.closed || peer.close_after_out) return;
    const bool tls = peer.keys.suite != nullptr;
    const bool tls13 = tls && peer.keys.suite->version == crypto::Version::tls13;
    switch (what) {
        case 0: {
            const Octets content(1 + std::size_t{input.octet()} * 64, static_cast<std::byte>(sender.sent.size()));
            if (!sender.broken) sender.sent.insert(sender.sent.end(), content.begin(), content.end());
            peer.send(content);
            return;
        }
        case 1:
            if (tls13) peer.send_key_update((input.octet() & 1) != 0);
            return;
        case 2: {   // any type and content, well sealed
            if (!tls) return;
            const auto type = static_cast<crypto::ContentType>(tls13 ? input.octet() : 20 + input.octet() % 4);
            const Octets content = input.octets(input.octet());
            peer.send_record(type, content);
            if (type == crypto::ContentType::application_data && !sender.broken)
                sender.sent.insert(sender.sent.end(), content.begin(), content.end());
            else
                sender.broken = true;   // a type of 0 makes padding of it: what comes behind is not worth the thought
            return;
        }
        case 3:   // octets that nobody sealed
            sender.broken = sender.broken || tls;
            if (tls) peer.send_raw(input.octets(input.octet()));
            return;
        case 4: {   // one bit wrong
            if (!tls) return;
            Octets record = peer.sealed(crypto::ContentType::application_data, Octets(input.octet(), std::byte{1}));
            record[input.octet() % record.size()] ^= static_cast<std::byte>(1u << input.octet() % 8);
            sender.broken = true;
            peer.send_raw(record);
            return;
        }
        case 5:
            peer.close_in_order();
            return;
        case 6:
            peer.close_after_out = true;   // truncation
            return;
        case 7:
            peer.write_step = 1 + input.octet();
            return;
        case 8:
            peer.read_limit = peer.octets_read + input.octet() * std::size_t{64};
            return;
        case 9:
            peer.abort();
            return;
        default:
            world.run_for(Duration(100us) * (1 + input.octet()));
            return;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::uint16_t kSuites[] = {0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xcca9, 0xc02f, 0};
    Input input(data, std::min<std::size_t>(size, 600));
    const std::uint8_t choice = input.octet();
    World world({.client_suite = kSuites[choice % 7], .backend_suite = kSuites[choice / 8 % 8], .receive_buffer = 32768, .send_buffer = 32768,
                 .idle_timeout = 3s, .appliance_buffers = 1023, .peers_buffers = 2047});
    Session& s = world.open();
    check(world.is_open(s), "no open flow");
    Sender senders[] = {{&s.client, {}}, {&s.backend, {}}};
    while (!input.empty()) {
        const std::uint8_t what = input.octet();
        operate(world, senders[what >> 7], what & 0x0f, input);
    }
    s.client.read_limit = s.backend.read_limit = ~std::size_t{0};
    check(world.run_until_empty(), "the flow or its connections do not end");
    check(world.appliance_buffers_in_use() == 0, "packet buffers leaked");
    for (int i = 0; i < 2; ++i) {
        const Octets& received = senders[1 - i].peer->data;
        const Octets& sent = senders[i].sent;
        check(senders[i].broken || received.size() <= sent.size(), "more was received than was sent");
        check(std::equal(received.begin(), received.begin() + static_cast<std::ptrdiff_t>(std::min(received.size(), sent.size())), sent.begin()),
              "other octets were received than were sent");
        check(senders[1 - i].peer->bad_records == 0, "we sent a bad record");
    }
    return 0;
}
