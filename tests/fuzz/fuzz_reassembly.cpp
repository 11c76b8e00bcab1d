// ReassemblyQueue against a model that knows each octet by itself. What came first stays, but for buffers that a later one covers whole; the
// number of buffers is bounded; SACK blocks tell of nothing that is not there.
#include <array>
#include <optional>

#include "tests/fuzz/input.h"
#include "tests/fuzz/tcp_host.h"

using namespace sallyport;
using namespace sallyport::fuzz;
using tcp::ReassemblyQueue;
using tcp::SeqNum;

namespace {

constexpr std::uint32_t kOctets = 65536;

class Model {
 public:
    explicit Model(SeqNum base) : base_(base), octets_(kOctets) {}
    std::optional<std::uint8_t>& at(SeqNum seq) { return octets_[(seq - base_) % kOctets]; }
    [[nodiscard]] bool all(SeqNum start, SeqNum end) {
        for (; start != end; start += 1)
            if (!at(start)) return false;
        return true;
    }

 private:
    SeqNum base_;
    std::vector<std::optional<std::uint8_t>> octets_;
};

void compare(ReassemblyQueue& queue, Model& model, SeqNum rcv_nxt, std::uint32_t there) {
    std::uint32_t octets = 0, buffers = 0;
    SeqNum end = rcv_nxt;
    for (rte_mbuf* at = tcp::CoreTestAccess::first(queue); at != nullptr; at = tcp::received_piece(at).next) {
        const SeqNum seq = tcp::received_piece(at).seq;
        expect(seq.at_or_after(end) && at->data_len > 0, "buffers overlap, or one is empty");
        for (std::uint16_t i = 0; i < at->data_len; ++i)
            expect(model.at(seq + i) == *rte_pktmbuf_mtod_offset(at, std::uint8_t*, i), "another octet than came first");
        end = seq + at->data_len;
        octets += at->data_len;
        ++buffers;
    }
    expect(octets == there, "octets are missing, or came from nowhere");
    expect(buffers == queue.buffers() && buffers == TcpHost::pool().in_use(), "buffers are counted wrongly, or leaked");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, std::min<std::size_t>(size, 600));
    const std::uint8_t choice = input.octet();
    const std::uint32_t limit = (choice & 15) == 15 ? 256 : 1 + (choice & 15);
    SeqNum rcv_nxt((choice & 16) != 0 ? 0xffffff00 : 1000);
    ReassemblyQueue queue;
    Model model(rcv_nxt);
    std::uint32_t there = 0, total = 0;
    std::uint8_t salt = 0;
    while (!input.empty() && total < kOctets - 5000) {
        const std::uint8_t what = input.octet();
        switch (what & 7) {
            default: {
                const std::uint32_t unit = (what & 8) != 0 ? 1 : 16;
                const SeqNum seq = rcv_nxt + 1 + input.octet() * unit;
                const auto length = static_cast<std::uint16_t>(1 + input.octet() * ((what & 16) != 0 ? 5u : 1u));
                rte_mbuf* buffer = rte_pktmbuf_alloc(TcpHost::pool().get());
                auto* octets = reinterpret_cast<std::uint8_t*>(rte_pktmbuf_append(buffer, length));
                ++salt;
                for (std::uint16_t i = 0; i < length; ++i) octets[i] = static_cast<std::uint8_t>(salt + i);
                // Buffers that begin behind this one and end with it at the latest are replaced.
                std::vector<bool> fresh(length);
                for (std::uint16_t i = 0; i < length; ++i) fresh[i] = !model.at(seq + i);
                for (rte_mbuf* at = tcp::CoreTestAccess::first(queue); at != nullptr; at = tcp::received_piece(at).next) {
                    const SeqNum start = tcp::received_piece(at).seq, end = start + at->data_len;
                    if (start.after(seq) && end.at_or_before(seq + length))
                        std::fill_n(fresh.begin() + (start - seq), at->data_len, true);
                }
                switch (queue.insert(buffer, seq, limit)) {
                    case ReassemblyQueue::Inserted::all:
                        for (std::uint16_t i = 0; i < length; ++i) {
                            there += model.at(seq + i) ? 0 : 1;
                            if (fresh[i]) model.at(seq + i) = static_cast<std::uint8_t>(salt + i);
                        }
                        break;
                    case ReassemblyQueue::Inserted::duplicate:
                        expect(model.all(seq, seq + length), "not a duplicate");
                        break;
                    case ReassemblyQueue::Inserted::full:
                        expect(queue.buffers() >= limit, "full, and is not");
                        break;
                }
                break;
            }
            case 5: {   // octets arrive in order
                const std::uint32_t length = 1 + input.octet() * ((what & 16) != 0 ? 5u : 1u);
                for (std::uint32_t i = 0; i < length; ++i) {
                    there -= model.at(rcv_nxt + i) ? 1 : 0;
                    model.at(rcv_nxt + i).reset();
                }
                rcv_nxt += length;
                total += length;
                while (rte_mbuf* buffer = queue.take(rcv_nxt)) {
                    for (std::uint16_t i = 0; i < buffer->data_len; ++i) {
                        expect(model.at(rcv_nxt + i) == *rte_pktmbuf_mtod_offset(buffer, std::uint8_t*, i), "another octet than was kept");
                        model.at(rcv_nxt + i).reset();
                    }
                    there -= buffer->data_len;
                    total += buffer->data_len;
                    rcv_nxt += buffer->data_len;
                    expect(buffer->data_len > 0, "an empty buffer");
                    rte_pktmbuf_free_seg(buffer);
                }
                expect(!model.at(rcv_nxt), "not all that continues was given out");
                break;
            }
            case 6: {
                std::array<wire::SackBlock, 4> blocks;
                const std::size_t count = queue.sack_blocks(rcv_nxt, blocks);
                for (std::size_t i = 0; i < count; ++i) {
                    const SeqNum start(blocks[i].start), end(blocks[i].end);
                    expect(start.before(end), "an empty SACK block");
                    if (start.at_or_before(rcv_nxt)) {   // RFC 2883: reports a duplicate
                        expect(i == 0, "a block below RCV.NXT that is not the first");
                        continue;
                    }
                    expect(model.all(start, end), "a SACK block tells of octets that are not there");
                }
                queue.reported();
                break;
            }
            case 7:
                if (what < 248) break;
                queue.clear();
                model = Model(rcv_nxt);
                there = 0;
                total = 0;
                break;
        }
        expect(queue.buffers() <= limit, "more buffers than allowed");
        compare(queue, model, rcv_nxt, there);
    }
    queue.clear();
    TcpHost::expect_nothing_left();
    return 0;
}
