// One established connection: segments near its live sequence numbers, between what a user may do, time, and ICMP errors. Whatever comes: the
// invariants hold, what is read is what was sent, what is sent again is what was sent before, and nothing is left at the end.
#include <array>

#include "tests/fuzz/tcp_host.h"

using namespace sallyport;
using namespace sallyport::fuzz;
using tcp::SeqNum;

namespace {

/// Of both streams, by the place in it.
std::byte octet_at(std::uint32_t offset) { return static_cast<std::byte>((offset * 167) ^ (offset >> 8)); }

struct Session {
    Session(const tcp::Settings& settings, bool v4, bool cuts, std::uint8_t offer) : host(settings, v4, cuts) {
        host.heard = [this](const Spoken& segment) { hear(segment); };
        wire::TcpOptions options;
        if ((offer & 1) == 0) options.mss = (offer & 2) == 0 ? 1460 : 100;
        if ((offer & 4) == 0) options.window_scale = 2;
        options.sack_permitted = (offer & 8) == 0;
        timestamps = (offer & 16) == 0;
        if (timestamps) options.timestamps = {{clock(), 0}};
        host.arrives({.port = 1000, .flags = wire::kSyn, .seq = iss, .ack = 0, .window = 20000, .options = options_of(options)});
        host.output(host.heard);
        expect(known, "no SYN,ACK");
        host.arrives({.port = 1000, .flags = wire::kAck, .seq = next, .ack = end, .window = 20000, .options = plain_options()});
        host.output(host.heard);
        const auto ready = host.stack.next_ready();
        expect(ready.connection != nullptr, "not established");
        connection = ready.connection;
    }

    [[nodiscard]] std::uint32_t clock() const { return static_cast<std::uint32_t>(host.now.time_since_epoch() / Duration{1ms}); }
    [[nodiscard]] std::vector<std::byte> plain_options() const {
        wire::TcpOptions options;
        if (timestamps) options.timestamps = {{clock(), echo}};
        return options_of(options);
    }
    void hear(const Spoken& segment) {
        if ((segment.flags & wire::kSyn) != 0) irs = segment.seq;
        known = true;
        if (const auto options = wire::parse_tcp_options(segment.options); options && options->timestamps) echo = options->timestamps->value;
        if ((segment.flags & wire::kRst) != 0) return;
        next = segment.ack;
        const std::uint32_t offset = segment.seq - irs - 1;
        for (std::size_t i = 0; i < segment.payload.size(); ++i)
            expect(segment.payload[i] == octet_at(offset + static_cast<std::uint32_t>(i)), "sends other octets than it was given");
        expect(segment.payload.empty() || offset + segment.payload.size() <= written, "sends more than it was given");
        const std::uint32_t behind = segment.seq + static_cast<std::uint32_t>(segment.payload.size()) + ((segment.flags & 3) != 0 ? 1 : 0);
        if (static_cast<std::int32_t>(behind - end) > 0 || (segment.flags & wire::kSyn) != 0) end = behind;
    }
    void segment(Input& input, std::uint8_t what) {
        Spoken segment{.port = 1000};
        segment.flags = (what & 16) != 0 ? input.octet() : wire::kAck;
        const std::uint8_t how = input.octet();
        segment.seq = next + place(how & 3, input);
        segment.ack = end - place(how >> 2 & 3, input);
        wire::TcpOptions options;
        if (timestamps != ((how & 16) != 0)) options.timestamps = {{clock() - ((how & 32) != 0 ? input.octet() : 0u), echo}};
        if ((how & 64) != 0) {
            options.sack_count = 1 + (input.octet() & 3);
            for (wire::SackBlock& block : std::span(options.sack_blocks).first(options.sack_count)) {
                block.start = end - place(2, input);
                block.end = block.start + place(2, input);
            }
        }
        segment.options = options_of(options);
        segment.window = (how & 128) != 0 ? two_octets(input) : 20000;
        segment.payload.resize((what & 32) != 0 ? input.octet() * std::size_t{(what & 64) != 0 ? 5u : 1u} : 0);
        for (std::size_t i = 0; i < segment.payload.size(); ++i)
            segment.payload[i] = octet_at(segment.seq - iss - 1 + static_cast<std::uint32_t>(i));
        host.arrives(segment, (how & 1) != 0 ? 3 : 1);
    }
    static std::uint32_t place(unsigned how, Input& input) {
        switch (how) {
            case 0: return 0;
            case 1: return static_cast<std::uint32_t>(static_cast<std::int8_t>(input.octet()));
            case 2: return two_octets(input) & 0x3fff;
            default: return four_octets(input);
        }
    }
    void user(std::uint8_t what, Input& input) {
        for (auto ready = host.stack.next_ready(); ready.connection != nullptr; ready = host.stack.next_ready()) {
            if (ready.connection != connection) ready.connection->release();   // a second one: the peer opened again
        }
        if (connection == nullptr) return;
        switch (what >> 4 & 7) {
            case 0:
            case 1: {
                std::vector<std::byte> octets(std::min<std::uint32_t>(two_octets(input) & 0x3fff, connection->send_space()));
                for (std::size_t i = 0; i < octets.size(); ++i) octets[i] = octet_at(written + static_cast<std::uint32_t>(i));
                if (connection->send(octets)) written += static_cast<std::uint32_t>(octets.size());
                break;
            }
            case 2: {
                std::array<tcp::WritePiece, 64> pieces;
                if (connection->reserve(1 + input.octet(), pieces) > 0) connection->give_back();
                break;
            }
            case 3: {
                const std::uint32_t length = std::min<std::uint32_t>(two_octets(input), connection->readable());
                std::array<tcp::WritePiece, 512> pieces;
                const std::size_t count = connection->peek(0, length, pieces);
                expect(length == 0 || count > 0, "cannot be read");
                for (const tcp::WritePiece& piece : std::span(pieces).first(count))
                    for (std::size_t i = 0; i < piece.length; ++i) expect(piece.data[i] == octet_at(read++), "other octets than were sent");
                connection->consume(length);
                break;
            }
            case 4: connection->set_receive_limit(two_octets(input)); break;
            case 5: connection->close(); break;
            case 6:
                if (input.octet() < 250) break;
                connection->abort();
                [[fallthrough]];
            case 7:
                if (input.octet() < 200) break;
                connection->release();
                connection = nullptr;
                break;
        }
    }

    TcpHost host;
    tcp::Connection* connection = nullptr;
    const std::uint32_t iss = 0xfffff000;          ///< the peer's: sequence numbers soon wrap
    std::uint32_t next = iss + 1, irs = 0, end = 0;
    std::uint32_t echo = 0;
    std::uint32_t written = 0, read = 0;
    bool timestamps = true, known = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, std::min<std::size_t>(size, 1500));
    const std::uint8_t choice = input.octet(), offer = input.octet();
    tcp::Settings settings{.max_connections = 4, .receive_buffer = (choice & 1) != 0 ? 3000u : 100000u, .send_buffer = (choice & 2) != 0 ? 3000u : 100000u,
                           .max_half_open = (choice & 4) != 0 ? 0u : 4u, .user_timeout = 30s,
                           .max_reassembly_segments = (choice & 8) != 0 ? 3u : 64u};
    if ((choice & 16) != 0) settings.receive_budget = settings.transmit_budget = 20;
    for (std::size_t i = 0; i < settings.secret.size(); ++i) settings.secret[i] = static_cast<std::uint8_t>(i * 7 + 1);
    {
        Session session(settings, (choice & 32) == 0, (choice & 64) != 0, offer);
        TcpHost& host = session.host;
        while (!input.empty()) {
            const std::uint8_t what = input.octet();
            switch (what & 7) {
                case 0:
                case 1:
                case 2:
                case 3:
                    session.segment(input, what);
                    if ((what & 8) == 0) host.output(host.heard, (what & 128) != 0);
                    break;
                case 4:
                case 5:
                    session.user(what, input);
                    if ((what & 8) == 0) host.output(host.heard, (what & 128) != 0);
                    break;
                case 6: host.passes(some_time(input)); break;
                case 7:
                    if ((what & 16) != 0)
                        host.let_go();
                    else
                        host.icmp({.local = host.us(), .remote = host.peer(), .local_port = TcpHost::kPort, .remote_port = 1000,
                                   .seq = session.end - Session::place(what >> 6, input),
                                   .what = static_cast<network::Received::IcmpError::What>((what >> 5) % 3), .mtu = two_octets(input)});
                    break;
            }
        }
        host.output(host.heard);
        if (session.connection != nullptr) session.connection->release();
        host.stack.unlisten({host.us(), TcpHost::kPort});
        const auto release_all = [&] {   // the peer may have opened again
            for (auto ready = host.stack.next_ready(); ready.connection != nullptr; ready = host.stack.next_ready()) ready.connection->release();
        };
        release_all();
        for (int i = 0; i < 40 && host.stack.connections() > 0; ++i) {
            host.passes(60s);
            release_all();
        }
        expect(host.stack.connections() == 0, "a connection that never ends");
        expect(host.stack.buffers_held() == 0 && host.stack.half_open() == 0, "something is held for no connection");
    }
    TcpHost::expect_nothing_left();
    return 0;
}
