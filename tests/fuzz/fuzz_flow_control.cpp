// Messages of a broken control into a FlowEngine, between what clients and backends do. Whatever comes: everything ends, with all memory
// given back.
#include <cstdlib>
#include <iostream>

#include "input.h"
#include "tests/unit/dataplane/flow/world.h"

using namespace sallyport;
using namespace sallyport::flow::test;
using channel::MessageType;

namespace {

void check(bool good, const char* what) {
    if (good) return;
    std::cerr << what << '\n';
    std::abort();
}

/// A good message of its kind, in which the input changes up to three octets.
template <typename Fixed>
void spoil_and_tell(World& world, MessageType type, channel::FlowId id, const Fixed& fixed, Input& input) {
    std::array<std::byte, sizeof(Fixed)> octets;
    std::memcpy(octets.data(), &fixed, sizeof fixed);
    for (int changes = input.octet() % 4; changes > 0; --changes) {
        const std::size_t at = (input.octet() | input.octet() << 8) % octets.size();
        octets[at] = std::byte{input.octet()};
    }
    const std::size_t length = input.octet() % 8 == 7 ? input.octet() % octets.size() : octets.size();
    const std::uint8_t payload = input.octet();
    world.tell_raw(type, id, std::span(octets).first(length), Octets(payload % 2 == 0 ? 0 : payload * std::size_t{128}, std::byte{22}));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::uint16_t kSuites[] = {0x1301, 0xc02c, 0x1303, 0};
    Input input(data, std::min<std::size_t>(size, 600));
    const std::uint8_t choice = input.octet();
    World world({.client_suite = kSuites[choice % 3], .backend_suite = kSuites[choice / 4 % 4], .receive_buffer = 32768, .send_buffer = 32768,
                 .max_flows = 8, .idle_timeout = 3s, .handshake_timeout = 2s, .appliance_buffers = 1023, .peers_buffers = 2047});
    for (int i = 0; i < 2; ++i) {
        Session& s = world.connect();
        s.hand_off_client = (choice & 0x40) != 0;
        s.hand_off_backend = (choice & 0x80) != 0;
    }
    while (!input.empty()) {
        const std::uint8_t what = input.octet();
        Session& s = world.session(what >> 7);
        const channel::FlowId id = (what & 0x40) != 0 ? channel::FlowId{s.id.value + input.octet()} : s.id;
        const Side side = (what & 0x20) != 0 ? Side::backend : Side::client;
        switch (what & 0x0f) {
            case 0:
                spoil_and_tell(world, MessageType::send_octets, id, channel::SendOctets{side, s.attempt, s.client_seen}, input);
                break;
            case 1:
                spoil_and_tell(world, MessageType::open_backend, id,
                               channel::OpenBackend{{World::address(2), World::kBackendPort}, ++s.attempt, 1, 500, 1, 1}, input);
                break;
            case 2:
                spoil_and_tell(world, MessageType::handoff, id, world.handoff_of(s, side), input);
                break;
            case 3:
                spoil_and_tell(world, MessageType::end_leg, id,
                               channel::EndLeg{side, s.attempt, static_cast<channel::EndHow>(input.octet() % 4), input.octet()}, input);
                break;
            case 4:
                spoil_and_tell(world, MessageType::open_probe, id, channel::OpenProbe{7, {World::address(2), World::kBackendPort}, 500}, input);
                break;
            case 5:
                world.tell_raw(static_cast<MessageType>(input.octet()), id, input.octets(input.octet()), {});
                break;
            case 6:
                if (!s.client.gone() && !s.client.closed) s.client.send(Octets(1 + input.octet() * std::size_t{32}, std::byte{5}));
                break;
            case 7:
                if (!s.backend.gone() && !s.backend.closed) s.backend.send(Octets(1 + input.octet() * std::size_t{32}, std::byte{6}));
                break;
            case 8:
                if (!s.client.gone()) s.client.close_after_out = true;
                break;
            case 9:
                if (!s.client.gone()) s.client.abort();
                break;
            case 10:
                if (!s.backend.gone()) s.backend.abort();
                break;
            case 11:
                world.stop_control();
                world.run_for(Duration(1ms) * input.octet());
                world.start_control();
                break;
            case 12:
                world.spoil_ring();
                break;
            default:
                world.run_for(Duration(100us) * (1 + input.octet()));
                break;
        }
    }
    check(world.run_until_empty(), "the flows or their connections do not end");
    check(world.appliance_buffers_in_use() == 0, "packet buffers leaked");
    const auto& counters = world.engine().counters();
    check(counters.flows_opened + counters.probes == counters.flows_ended, "a flow did not end once");
    return 0;
}
