// Selective acknowledgments: RFC 2018 5, RFC 2883, RFC 6675 3.

#include "dataplane/tcp/core.h"

namespace sallyport::tcp {

void Core::apply_sacks(ControlBlock& cb, const Arrival& arrival, Delivery& delivery) {
    const auto blocks = arrival.options.sacks();
    SendBuffer& buffer = cb.send_buffer;

    // RFC 2883 4: a first block below the cumulative ACK, or inside the second block, reports octets received twice.
    const SeqNum first_start(blocks[0].start), first_end(blocks[0].end);
    bool first_is_duplicate = first_end.at_or_before(arrival.ack);
    if (!first_is_duplicate && blocks.size() > 1)
        first_is_duplicate = first_start.at_or_after(SeqNum(blocks[1].start)) && first_end.at_or_before(SeqNum(blocks[1].end));
    delivery.duplicate_report = first_is_duplicate;

    // Only blocks within what is in flight are believed; a peer may not sell us anything else.
    struct Range {
        SeqNum start, end;
    };
    std::array<Range, 4> ranges;
    std::size_t count = 0;
    SeqNum lowest = cb.snd_nxt, highest = cb.snd_una;
    for (std::size_t i = first_is_duplicate ? 1 : 0; i < blocks.size(); ++i) {
        const SeqNum start(blocks[i].start), end(blocks[i].end);
        if (!start.before(end) || start.before(cb.snd_una) || end.after(cb.snd_nxt)) continue;
        ranges[count++] = {start, end};
        lowest = earlier_of(lowest, start);
        highest = later_of(highest, end);
    }
    if (count == 0) return;
    for (rte_mbuf* at = buffer.front(); at != buffer.unsent(); at = send_segment(at).next) {
        SendSegment& segment = send_segment(at);
        if (segment.seq.at_or_after(highest)) break;
        if (segment.sacked || segment.seq.before(lowest)) continue;
        for (std::size_t i = 0; i < count; ++i) {
            if (segment.seq.before(ranges[i].start) || segment.end().after(ranges[i].end)) continue;
            delivery.new_sack = true;
            note_delivered(cb, segment, arrival, delivery);
            buffer.mark_sacked(segment);
            break;
        }
    }
}

}  // namespace sallyport::tcp
