// Two stacks are given the same segments; one has no fast path. Afterwards no field of theirs may differ.

#include <random>

#include "tests/unit/dataplane/tcp/peer.h"

namespace sallyport::tcp {
namespace {

using test::Extra;
using test::Peer;
using wire::kAck;
using wire::kFin;
using wire::kPsh;
using wire::kRst;
using wire::kSyn;

#define SAME(field) ASSERT_EQ(a.field, b.field) << #field

void compare(const ControlBlock& a, const ControlBlock& b) {
    SAME(current); SAME(recovery); SAME(retransmit_timer); SAME(events); SAME(snd_wnd_shift); SAME(rcv_wnd_shift);
    SAME(timestamps); SAME(sack_permitted); SAME(window_scaling); SAME(ack_now); SAME(syn_due); SAME(passive); SAME(user_knows);
    SAME(released); SAME(closing); SAME(fin_appended); SAME(peer_fin_known); SAME(peer_fin_taken); SAME(cwnd_limited);
    SAME(nagle); SAME(ecn); SAME(ecn_echo); SAME(cwr_due); SAME(receive_space); SAME(engaged()); SAME(reordering_seen); SAME(tlp_retransmission); SAME(tlp_outstanding); SAME(undo_possible); SAME(listed);
    SAME(rcv_nxt.value()); SAME(rcv_adv.value()); SAME(last_ack_sent.value()); SAME(ts_recent); SAME(receive_limit);
    SAME(unacknowledged); SAME(rcv_mss); SAME(duplicate_acks_due); SAME(receive_queue.octets()); SAME(receive_queue.buffers());
    SAME(snd_una.value()); SAME(snd_nxt.value()); SAME(snd_wl1.value()); SAME(snd_wl2.value()); SAME(snd_wnd); SAME(max_snd_wnd);
    SAME(snd_mss); SAME(peer_mss); SAME(our_mss); SAME(backoff); SAME(probes); SAME(transfer->send_buffer.octets());
    SAME(transfer->send_buffer.segments()); SAME(transfer->send_buffer.sacked_octets); SAME(transfer->send_buffer.lost_octets);
    SAME(transfer->send_buffer.retransmitted_octets); SAME(cubic.cwnd()); SAME(cubic.ssthresh()); SAME(rtt.srtt()); SAME(rtt.rttvar());
    SAME(rtt.rto()); ASSERT_TRUE(a.deadlines == b.deadlines); SAME(timer_at); SAME(ts_offset); SAME(received_held); SAME(sent_held); ASSERT_TRUE(a.last_received == b.last_received); ASSERT_TRUE(a.last_progress == b.last_progress);
    SAME(last_sent); ASSERT_TRUE(a.confirmed == b.confirmed); SAME(recovery_point.value()); SAME(transfer->rack_end.value()); SAME(transfer->rack_fack.value());
    SAME(transfer->rack_sent_at); SAME(transfer->rack_rtt); SAME(transfer->tlp_end.value()); SAME(transfer->duplicate_acks); SAME(syn_transmissions); SAME(transfer->reno_sacked);
    SAME(transfer->prr_delivered); SAME(transfer->prr_out); SAME(transfer->recover_flight); SAME(transfer->undo_timestamp); SAME(iss.value()); SAME(irs.value());
    SAME(peer_fin_seq.value()); SAME(transfer->reassembly.buffers()); SAME(challenges); SAME(ended); ASSERT_TRUE(a.challenge_period == b.challenge_period);
    SAME(ready.linked()); SAME(dirty.linked()); SAME(octets_sent); SAME(octets_received); SAME(retransmissions); SAME(timeouts);
}

#undef SAME

TEST(FastPath, RandomSegments_LeaveTheSameStateAsTheSlowPath) {
    std::uint64_t by_fast_path = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::mt19937_64 random(seed);
        Settings settings;
        settings.max_connections = 16;
        Peer fast(settings), slow(settings);
        slow.core.fast_path_enabled = false;
        const bool timestamps = random() % 4 != 0, sack = random() % 4 != 0;
        for (Peer* peer : {&fast, &slow}) {
            if (!timestamps) peer->ts = 0;
            peer->establish({.sack = sack});
        }
        std::string text(1448, '.');
        for (auto& letter : text) letter = static_cast<char>(random());
        for (int step = 0; step < 300; ++step) {
            const std::uint64_t kind = random() % 20;
            const auto length = static_cast<std::size_t>(random() % 3 == 0 ? 1448 : random() % 1448);
            const auto back = static_cast<std::uint32_t>(random() % 3000);
            const bool consume = random() % 3 == 0, write = random() % 6 == 0, flush = random() % 2 == 0;
            const auto written = static_cast<std::size_t>(random() % 5000);
            const Duration pause{static_cast<std::int64_t>(random() % 30'000'000)};
            const std::uint8_t push = random() % 2 == 0 ? kPsh : 0;
            const bool chained = length > 100 && random() % 5 == 0;
            const bool all = random() % 2 == 0;
            const auto part = random();
            for (Peer* peer : {&fast, &slow}) {
                peer->now += pause;
                if (peer->ts != 0) peer->ts += static_cast<std::uint32_t>(pause / 1ms);
                peer->core.advance(peer->now);
                ControlBlock* cb = CoreTestAccess::only(peer->core);
                if (cb == nullptr) break;
                const std::string_view payload(text.data(), length);
                // What the peer acknowledges: all, some, or nothing new.
                const std::uint32_t flight = cb->snd_nxt - peer->rcv_nxt;
                if (kind >= 12 && flight > 0 && flight < 0x80000000) peer->rcv_nxt += all ? flight : static_cast<std::uint32_t>(part % flight);
                const Extra extra{.window = static_cast<std::uint16_t>(kind == 11 ? 500 : 60000), .chained = chained ? 50u : 0u};
                if (kind == 0) peer->arrives(kAck | push, peer->snd_nxt + back, peer->rcv_nxt, payload, extra);
                else if (kind == 1) peer->arrives(kAck | push, peer->snd_nxt - back, peer->rcv_nxt, payload, extra);
                else if (kind == 2) peer->arrives(kAck, peer->snd_nxt, peer->rcv_nxt);
                else if (kind == 3) peer->arrives(kSyn, peer->snd_nxt, peer->rcv_nxt);
                else if (kind == 4) peer->arrives(kRst, peer->snd_nxt + 1, peer->rcv_nxt);
                else if (kind == 5 && step > 280) peer->arrives(kAck | kFin, peer->snd_nxt, peer->rcv_nxt, payload);
                else {
                    const SeqNum before = cb->rcv_nxt;
                    peer->arrives(kAck | push, peer->snd_nxt, peer->rcv_nxt, payload, extra);
                    if (peer == &fast && cb->rcv_nxt != before) ++by_fast_path;
                }
                cb = CoreTestAccess::only(peer->core);
                if (cb != nullptr) peer->snd_nxt = cb->rcv_nxt;
                if (consume && peer->connection->readable() > 0) peer->connection->consume(peer->connection->readable());
                if (write && peer->connection->send_space() > written) peer->write(written);
                if (flush) peer->output();
            }
            ControlBlock* a = CoreTestAccess::only(fast.core);
            ControlBlock* b = CoreTestAccess::only(slow.core);
            ASSERT_EQ(a == nullptr, b == nullptr);
            if (a == nullptr) break;
            compare(*a, *b);
            if (HasFatalFailure()) return;
            ASSERT_EQ(fast.sent.size(), slow.sent.size());
            for (std::size_t i = 0; i < fast.sent.size(); ++i) {
                ASSERT_EQ(fast.sent[i].flags, slow.sent[i].flags);
                ASSERT_EQ(fast.sent[i].seq, slow.sent[i].seq);
                ASSERT_EQ(fast.sent[i].ack, slow.sent[i].ack);
                ASSERT_EQ(fast.sent[i].window, slow.sent[i].window);
                ASSERT_EQ(fast.sent[i].options, slow.sent[i].options);
            }
            ASSERT_EQ(fast.drops.values, slow.drops.values);
            ASSERT_EQ(fast.core.buffers_held(), slow.core.buffers_held());
        }
    }
    EXPECT_GT(by_fast_path, 1000u);
}

}  // namespace
}  // namespace sallyport::tcp
