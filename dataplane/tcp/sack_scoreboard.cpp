// Selective acknowledgments: RFC 2018 5, RFC 2883, RFC 6675 3.

#include <algorithm>

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

namespace {
/// Whether at least one of several segments in a buffer is in the range, but not all are.
bool covers_a_part(const SendSegment& several, const SackRange& range) noexcept {
    const bool all = several.seq.at_or_after(range.start) && several.end().at_or_before(range.end);
    const std::uint32_t before = several.seq.before(range.start) ? range.start - several.seq : 0;
    const std::uint32_t first = (before + several.cut_to - 1) / several.cut_to * several.cut_to;   // of those that lie behind the beginning of the range
    return !all && first < several.length && (several.seq + std::min<std::uint32_t>(first + several.cut_to, several.length)).at_or_before(range.end);
}
}  // namespace

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
        if (send_segment(at).seq.at_or_after(range.end)) break;
        // Several in one buffer of which it covers some: one after another is cut off, as far as it reaches. Never less than what was a segment, whatever the peer
        // says, so that they are no more than they were on the wire.
        while (send_segment(at).length > send_segment(at).cut_to && !send_segment(at).sacked && covers_a_part(send_segment(at), range)) {
            rte_mbuf* const front = buffer.split(at, send_segment(at).cut_to, pool_);
            if (front == nullptr) break;
            if (send_segment(front).seq.at_or_after(range.start)) {
                at = front;
                break;
            }
        }
        SendSegment& segment = send_segment(at);
        if (segment.sacked || segment.seq.before(range.start) || segment.end().after(range.end)) continue;
        delivery.new_sack = true;
        note_delivered(cb, segment, arrival, delivery);
        buffer.mark_sacked(at);
    }
}

}  // namespace sallyport::tcp
