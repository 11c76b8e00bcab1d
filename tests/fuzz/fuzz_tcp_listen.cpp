// Packets with good checksums into a listening stack: SYNs, the ACKs that follow them, cookies, and whatever else may come to one. Whatever
// comes: the invariants hold, memory stays bounded, and nothing is left at the end.
#include <array>

#include "tests/fuzz/tcp_host.h"

using namespace sallyport;
using namespace sallyport::fuzz;

namespace {

constexpr std::size_t kPorts = 4;

/// What one of the peer's ports knows.
struct Port {
    std::uint32_t seq = 0x10203040;    ///< of its SYN
    std::uint32_t next = 0;            ///< what the stack has acknowledged
    std::uint32_t heard_end = 0;       ///< behind the last that the stack has sent
    std::uint32_t ts_echo = 0;
};

wire::TcpOptions timestamps(std::uint32_t value, std::uint32_t echo) {
    wire::TcpOptions options;
    options.timestamps = {value, echo};
    return options;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, std::min<std::size_t>(size, 1000));
    const std::uint8_t choice = input.octet();
    tcp::Settings settings{.max_connections = 2u + (choice & 3), .receive_buffer = (choice & 4) != 0 ? 2000u : 200000u, .send_buffer = 20000,
                           .max_half_open = (choice & 8) != 0 ? 0u : 2u, .user_timeout = 20s, .max_reassembly_segments = 8};
    if ((choice & 16) != 0) settings.receive_budget = settings.transmit_budget = 16;
    for (std::size_t i = 0; i < settings.secret.size(); ++i) settings.secret[i] = static_cast<std::uint8_t>(i * 7 + 1);
    {
        TcpHost host(settings, (choice & 32) == 0);
        std::array<Port, kPorts> ports;
        std::vector<tcp::Connection*> accepted;
        host.heard = [&](const Spoken& segment) {
            Port& port = ports[segment.port % kPorts];
            port.next = segment.ack;
            port.heard_end = segment.seq + static_cast<std::uint32_t>(segment.payload.size()) + ((segment.flags & 3) != 0 ? 1 : 0);
            if (const auto options = wire::parse_tcp_options(segment.options); options && options->timestamps)
                port.ts_echo = options->timestamps->value;
        };
        while (!input.empty()) {
            const std::uint8_t what = input.octet();
            switch (what & 15) {
                default: {
                    Spoken segment;
                    segment.port = what >> 4 & (kPorts - 1);
                    Port& port = ports[segment.port];
                    segment.port += 1000;
                    segment.flags = input.octet();
                    const std::uint8_t how = input.octet();
                    switch (how & 3) {
                        case 0: segment.seq = port.seq; break;
                        case 1: segment.seq = port.next; break;
                        case 2: segment.seq = port.next + static_cast<std::uint32_t>(static_cast<std::int8_t>(input.octet())) * 16; break;
                        case 3: segment.seq = four_octets(input); break;
                    }
                    switch (how >> 2 & 3) {
                        case 0: segment.ack = 0; break;
                        case 1: segment.ack = port.heard_end; break;
                        case 2: segment.ack = port.heard_end + static_cast<std::uint32_t>(static_cast<std::int8_t>(input.octet())); break;
                        case 3: segment.ack = four_octets(input); break;
                    }
                    const auto clock = static_cast<std::uint32_t>(host.now.time_since_epoch() / Duration{1ms});
                    switch (how >> 4 & 3) {
                        case 0: break;
                        case 1: {
                            wire::TcpOptions options = timestamps(clock, 0);
                            options.mss = 1460;
                            options.window_scale = 7;
                            options.sack_permitted = true;
                            segment.options = options_of(options);
                            break;
                        }
                        case 2: segment.options = options_of(timestamps(clock, port.ts_echo)); break;
                        case 3: segment.options = input.octets(input.octet() % 41); break;
                    }
                    segment.window = two_octets(input);
                    segment.payload.resize((how & 64) != 0 ? input.octet() * std::size_t{5} : 0, std::byte{'p'});
                    if ((segment.flags & wire::kSyn) != 0) port.seq = segment.seq;
                    host.arrives(segment, (how & 128) != 0 ? 3 : 1);
                    break;
                }
                case 10:
                    host.passes(some_time(input));
                    break;
                case 11: {
                    tcp::SeqNum seq(ports[what >> 4 & (kPorts - 1)].heard_end - input.octet());
                    host.icmp({.local = host.us(), .remote = host.peer(), .local_port = TcpHost::kPort,
                               .remote_port = static_cast<std::uint16_t>(1000 + (what >> 4 & (kPorts - 1))), .seq = seq.value(),
                               .what = static_cast<network::Received::IcmpError::What>(what >> 6), .mtu = two_octets(input)});
                    break;
                }
                case 12:
                    host.stack.unlisten({host.us(), TcpHost::kPort});
                    host.output(host.heard);
                    if (what >= 128) host.stack.listen({host.us(), TcpHost::kPort});
                    break;
                case 13: static_cast<void>(host.stack.shed_orphan()); break;
                case 14:   // a user
                    for (auto ready = host.stack.next_ready(); ready.connection != nullptr; ready = host.stack.next_ready()) {
                        tcp::Connection* const connection = ready.connection;
                        if ((ready.events & tcp::event::kEstablished) != 0) accepted.push_back(connection);
                        connection->consume(connection->readable());
                        if ((ready.events & tcp::event::kPeerClosed) != 0) connection->close();
                        if ((what & 16) != 0) static_cast<void>(connection->send(std::array<std::byte, 700>{}));
                        if ((ready.events & tcp::event::kEnded) != 0 || (what & 32) != 0) {
                            if ((what & 64) != 0) connection->abort();
                            connection->release();
                            std::erase(accepted, connection);
                        }
                    }
                    break;
                case 15: break;   // what has arrived is answered
            }
            if ((what & 15) == 15 || (what & 128) == 0) host.output(host.heard);
        }
        host.output(host.heard);
        // Nobody says anything any more: all end by time. Those that nobody uses, by their user.
        for (tcp::Connection* const connection : accepted) connection->release();
        for (auto ready = host.stack.next_ready(); ready.connection != nullptr; ready = host.stack.next_ready()) ready.connection->release();
        for (int i = 0; i < 40 && host.stack.connections() > 0; ++i) {
            host.passes(60s);
            for (auto ready = host.stack.next_ready(); ready.connection != nullptr; ready = host.stack.next_ready()) ready.connection->release();
        }
        expect(host.stack.connections() == 0, "a connection that never ends");
        expect(host.stack.buffers_held() == 0 && host.stack.half_open() == 0, "something is held for no connection");
    }
    TcpHost::expect_nothing_left();
    return 0;
}
