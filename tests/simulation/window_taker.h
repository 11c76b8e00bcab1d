#pragma once

#include <map>
#include <optional>
#include <vector>

#include "dataplane/tcp/seq_num.h"
#include "dataplane/time.h"
#include "tests/simulation/frame.h"

namespace sallyport::simulation {

/// Makes of a host one that takes back window that it has given, as Linux from 6.17 on may do. RFC 9293 3.8.6 discourages that, and asks the
/// other end to bear it. Sits right before the host: what leaves has its window field rewritten; what arrives and reaches beyond what that
/// says is dropped before the host sees even its ACK field, and answered with an ACK as the host would (tcp_sequence() of Linux).
class WindowTaker {
 public:
    /// From `at` on the host offers no more than `window`.
    struct Step {
        Time at;
        std::uint32_t window;
    };
    explicit WindowTaker(std::vector<Step> steps) : steps_(std::move(steps)) {}

    /// What leaves the host.
    void leaves(FrameView frame, Time now) {
        Flow& flow = flows_[{frame.source_port(), frame.destination_port()}];
        if (frame.has(wire::kSyn)) {
            const std::optional<std::uint8_t> theirs = frame.has(wire::kAck) ? flow.theirs : std::nullopt;
            flow = {};
            flow.theirs = theirs;
            flow.ours = shift_of(frame);
            return;
        }
        if (frame.has(wire::kRst)) return;
        const unsigned shift = flow.shift();
        flow.offered = frame.window();
        const auto field = static_cast<std::uint16_t>(std::min<std::uint32_t>(flow.offered, most(now) >> shift));
        if (field != flow.offered) {
            frame.set_window(field);
            frame.mend();
        }
        const tcp::SeqNum end = tcp::SeqNum(frame.seq()) + frame.sequence_length(), ack(frame.ack());
        flow.next = flow.any ? tcp::later_of(flow.next, end) : end;
        flow.ack = flow.any ? tcp::later_of(flow.ack, ack) : ack;
        flow.edge = flow.ack + (std::uint32_t{field} << shift);
        flow.headers.assign(frame.octets().begin(), frame.octets().begin() + static_cast<std::ptrdiff_t>(frame.headers()));
        flow.any = true;
    }

    /// What would arrive at the host. False: it is dropped.
    bool arrives(const FrameView& frame) {
        Flow& flow = flows_[{frame.destination_port(), frame.source_port()}];
        if (frame.has(wire::kSyn)) flow.theirs = shift_of(frame);
        if (frame.has(wire::kSyn | wire::kRst) || !flow.any) return true;
        return !(tcp::SeqNum(frame.seq()) + frame.sequence_length()).after(flow.edge);
    }

    /// The host's answer to what was dropped, as it leaves.
    [[nodiscard]] std::vector<std::byte> answer(const FrameView& dropped, Time now) {
        Flow& flow = flows_[{dropped.destination_port(), dropped.source_port()}];
        std::vector<std::byte> octets = flow.headers;
        const std::size_t ip = wire::load16(octets.data() + 12) == 0x0800 ? 20 : 40;
        if (ip == 20)
            wire::store16(octets.data() + 16, static_cast<std::uint16_t>(octets.size() - 14));
        else
            wire::store16(octets.data() + 18, static_cast<std::uint16_t>(octets.size() - 54));
        FrameView frame = *FrameView::of(octets);
        frame.remove_option(5);
        frame.set_flags(wire::kAck);
        frame.set_seq(flow.next.value());
        frame.set_ack(flow.ack.value());
        frame.set_window(static_cast<std::uint16_t>(std::min<std::uint32_t>(flow.offered, most(now) >> flow.shift())));
        frame.mend();
        flow.edge = flow.ack + (std::uint32_t{frame.window()} << flow.shift());
        return octets;
    }

 private:
    struct Flow {
        std::optional<std::uint8_t> ours, theirs;   ///< window scale options
        std::vector<std::byte> headers;             ///< of the last segment that left
        tcp::SeqNum next, ack, edge;
        std::uint16_t offered = 0;                  ///< the window field as the host meant it
        bool any = false;
        [[nodiscard]] unsigned shift() const { return ours && theirs ? *ours : 0; }
    };
    [[nodiscard]] std::uint32_t most(Time now) const {
        std::uint32_t window = UINT32_MAX;
        for (const Step& step : steps_)
            if (step.at <= now) window = step.window;
        return window;
    }
    static std::optional<std::uint8_t> shift_of(const FrameView& frame) {
        const auto option = frame.option(3);
        return option.size() == 3 ? std::optional(wire::load8(&option[2])) : std::nullopt;
    }

    std::vector<Step> steps_;
    std::map<std::pair<std::uint16_t, std::uint16_t>, Flow> flows_;
};

}  // namespace sallyport::simulation
