// Selective acknowledgments: RFC 2018 5, RFC 2883, RFC 6675 3.

#include <algorithm>

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

void Core::apply_sacks(ControlBlock& cb, const Arrival& arrival, Delivery& delivery) {
    const auto blocks = arrival.options.sacks();
    SendBuffer& buffer = cb.transfer->send_buffer;

    // RFC 2883 4: a first block below the cumulative ACK, or inside the second block, reports octets received twice.
    const SeqNum first_start(blocks[0].start), first_end(blocks[0].end);
    bool first_is_duplicate = first_end.at_or_before(arrival.ack);
    if (!first_is_duplicate && blocks.size() > 1)
        first_is_duplicate = first_start.at_or_after(SeqNum(blocks[1].start)) && first_end.at_or_before(SeqNum(blocks[1].end));
    delivery.duplicate_report = first_is_duplicate;

    if (buffer.sacked_octets == 0) cb.transfer->sacks_seen = {};
    std::array<SackRange, Transfer::kSacksSeen> seen{};
    std::size_t count = 0;
    for (std::size_t i = first_is_duplicate ? 1 : 0; i < blocks.size(); ++i) {
        const SackRange range{SeqNum(blocks[i].start), SeqNum(blocks[i].end)};
        // Only blocks within what is in flight are believed; a peer may not sell us anything else.
        if (!range.start.before(range.end) || range.start.before(cb.snd_una) || range.end.after(cb.snd_nxt)) continue;
        // Blocks come again in several ACKs; what an earlier one told has been noted.
        if (!std::ranges::any_of(cb.transfer->sacks_seen, [&](const SackRange& before) { return before.holds(range); }))
            apply_sack(cb, range, arrival, delivery);
        if (count < seen.size()) seen[count++] = range;
    }
    cb.transfer->sacks_seen = seen;
}

void Core::apply_sack(ControlBlock& cb, const SackRange& range, const Arrival& arrival, Delivery& delivery) {
    SendBuffer& buffer = cb.transfer->send_buffer;
    // Most often it is about what follows the highest octet that has been reported; else the walk begins at the nearer end.
    rte_mbuf* at = buffer.front();
    if (rte_mbuf* const highest = buffer.highest_sacked()) {
        const SendSegment& top = send_segment(highest);
        SeqNum known = range.start;
        for (const SackRange& before : cb.transfer->sacks_seen)
            if (range.start.at_or_after(before.start) && range.start.at_or_before(before.end)) known = later_of(known, before.end);
        if (known.at_or_after(top.seq)) {
            at = highest;
        } else if (top.seq - known < known - cb.snd_una) {
            for (at = highest; send_segment(at).seq.after(known) && send_segment(at).previous != nullptr;) at = send_segment(at).previous;
        }
    }
    for (; at != buffer.unsent(); at = send_segment(at).next) {
        SendSegment& segment = send_segment(at);
        if (segment.seq.at_or_after(range.end)) break;
        if (segment.sacked || segment.seq.before(range.start) || segment.end().after(range.end)) continue;
        delivery.new_sack = true;
        note_delivered(cb, segment, arrival, delivery);
        buffer.mark_sacked(at);
    }
}

}  // namespace sallyport::tcp
