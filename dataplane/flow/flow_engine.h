#pragma once

#include <array>
#include <deque>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "crypto/aead_batch.h"
#include "dataplane/drop_reason.h"
#include "dataplane/flow/deadline_wheel.h"
#include "dataplane/flow/flow.h"
#include "dataplane/flow/flow_table.h"
#include "dataplane/flow/lanes.h"
#include "dataplane/tcp/stack.h"

namespace sallyport::flow {

/// What a worker serves: immutable, made by the main thread, swapped in between two loop iterations.
struct ServiceTable {
    std::uint32_t generation = 0;
    struct Service {
        std::string name;
        Duration idle_timeout = 3600s;
        Duration handshake_timeout = 10s;
        bool redirect = false;   ///< plain HTTP that control answers: no TLS on it, and never a backend
        std::uint64_t id = 0;    ///< service_id() or redirect_id() of the name
    };
    std::vector<Service> services;
    struct Listen {
        SocketAddress address;
        std::uint32_t service = 0;   ///< index
    };
    std::vector<Listen> listens;   ///< no address twice
    std::vector<std::pair<std::uint64_t, std::uint32_t>> by_id;   ///< indices of services; sorted

    /// Sorts listens and fills in by_id; call it when the rest is there, before the table is served.
    void index();
    /// nullptr: there is no such service.
    [[nodiscard]] const Service* find(std::uint64_t id) const noexcept;
    /// The listener at exactly this address before the one for any address of its family; nullptr: none.
    [[nodiscard]] const Listen* find_listen(const SocketAddress& local) const noexcept;
};

struct EngineSettings {
    std::uint8_t worker = 0;
    std::uint32_t max_flows = 65536;
    std::uint32_t receive_buffer = 262144;   ///< octets a leg, once it is open
    Duration control_away = 5s;              ///< how long a new connection waits for control
    Duration linger = 2s;                    ///< how long we discard what arrives after our FIN
};

struct EngineCounters {
    std::uint64_t flows_opened = 0, flows_ended = 0, probes = 0;
    std::uint64_t records_opened = 0, records_sealed = 0;
    std::uint64_t octets_to_backend = 0, octets_to_client = 0;   ///< application octets passed on
    std::uint64_t clear_octets_to_backend = 0;                   ///< of them to backends without TLS
    std::uint64_t clear_octets_from_client = 0;                  ///< of them of clients whose TLS was not ended here: none, as long as we are right
    std::uint64_t renegotiations_refused = 0;                    ///< TLS 1.2 handshake messages where there is no handshake any more
    std::uint64_t key_updates_received = 0, key_updates_sent = 0, alerts_received = 0, alerts_sent = 0;
    std::uint64_t tickets_passed = 0, control_restarts_survived = 0;
    std::uint64_t told_late = 0;                                 ///< tries to tell control of a flow whose lane had been full
    std::array<std::uint64_t, static_cast<std::size_t>(EndReason::count_)> ended_by{};
};

/// A flow as reports show it.
struct FlowStatus {
    channel::FlowId id;
    std::uint32_t generation = 0;
    std::uint64_t service = 0, pool = 0, member = 0;   ///< ids
    bool has_member = false, ending = false;
    SocketAddress client, local, backend;
    SocketAddress backend_local;   ///< our end of the backend's leg; port 0 while there is none
    LegPhase client_phase{}, backend_phase{};
    std::uint16_t client_suite = 0, client_group = 0, backend_suite = 0, backend_group = 0;
    bool backend_plain = false;
    std::uint64_t client_in = 0, client_out = 0, backend_in = 0, backend_out = 0;
    Duration age{};
    bool client_tcp_known = false, backend_tcp_known = false;
    tcp::Connection::Status client_tcp{}, backend_tcp{};
};

/// The flows of one worker: joins TCP below, control beside, and the record engine. Owning worker only; nothing here blocks,
/// locks or throws, and nothing but the lists' growth allocates.
class FlowEngine {
 public:
    FlowEngine(const EngineSettings& settings, tcp::Stack& stack, crypto::AeadBatch& batch, DropCounters& drops);
    ~FlowEngine();

    /// Swaps what is served (indexed; borrowed until the next call); listens and unlistens. Flows go on: those of services that are still
    /// there by id get their idle time-out, over the next turns; those of services that are gone, and of listeners that were moved, live to their
    /// own end as they would when a server stops to listen.
    void serve(const ServiceTable* table);
    void set_control_away(Duration patience) noexcept { settings_.control_away = patience; }
    /// Control has attached (or gone: nullptr). The lanes are borrowed until the next call.
    void attach(Lanes* lanes, Time now);

    /// One turn: what TCP reports, what control says, records, deadlines. Returns whether there was anything to do.
    [[nodiscard]] bool turn(Time now);

    /// Ends every flow in order (close_notify, FIN): at shutdown. One that moves gets an error alert, since its streams are cut short; with
    /// `resting_only` it is left alone, so that it may come to rest: all that came delivered and acknowledged.
    void end_all(EndReason reason, bool resting_only, Time now);
    [[nodiscard]] std::uint32_t flows() const noexcept { return table_.in_use(); }

    [[nodiscard]] const EngineCounters& counters() const noexcept { return counters_; }
    /// Up to `limit` flows, from record `first` on; sets `first` to go on with, 0 at the end.
    [[nodiscard]] std::vector<FlowStatus> statuses(std::uint32_t& first, std::size_t limit, Time now);
    /// Adopted flows for each service and member that has some: what a control that starts anew must count.
    struct Adopted {
        std::uint64_t service, pool, member;   ///< ids; pool and member 0: the flow has none
        std::uint64_t flows;
    };
    [[nodiscard]] std::vector<Adopted> adopted();

    /// Which flows an operator means; what is left at nought means any. Health checks are never meant.
    struct Filter {
        std::uint64_t service = 0, pool = 0, member = 0;   ///< ids
        channel::FlowId flow{};
        IpPrefix client{};              ///< prefix of the client's address
        bool any_client = true;
        std::uint16_t client_port = 0;
    };
    /// Ends those of them that are among `limit` records from `first` on, in order as far as their streams allow; sets `first` to go on with,
    /// 0 at the end. Returns how many.
    std::uint64_t end_matching(const Filter& filter, std::uint32_t& first, std::uint32_t limit, Time now);
    /// Ends flows with a leg on an address of ours for which `gone` says so: with a reset, while it still can be sent from there. All at once.
    void end_on_addresses(const std::function<bool(const IpAddress&)>& gone, Time now);

 private:
    using Side = channel::Leg;
    static constexpr std::uint32_t kHandshakeReceiveLimit = 64 * 1024;   ///< octets unread of a leg whose handshake runs

    // lifecycle (flow_engine.cpp)
    static void fetch(void* engine, std::uint64_t user, bool again);   ///< tcp::Stack::Fetch
    void on_event(tcp::Stack::Ready ready, Time now);
    [[nodiscard]] bool on_accepted(tcp::Connection& connection, Time now);
    void retime(Time now);
    void on_leg_event(Flow& flow, Side side, std::uint8_t events, Time now);
    void on_leg_lost(Flow& flow, Side side, tcp::End end, Time now);
    void on_deadline(Flow& flow, Time now);
    void end(Flow& flow, EndReason reason, Time now);
    void abort_leg(Flow& flow, Side side);
    void linger(Flow& flow, Side side);
    void close_in_order(Flow& flow, Side side, std::uint8_t description);
    void discard(Flow& flow, Side side);
    [[nodiscard]] static bool cut_short(Flow& flow, Side side, EndReason reason);
    void release_leg(Flow& flow, Side side);
    void wipe_keys(Leg& leg);
    void finish_if_gone(Flow& flow);
    void reap();
    void detach(Flow& flow, Time now);
    void quiesce();
    void arm(Flow& flow, Time now);
    void activate(Flow& flow);
    void shed(Time now);

    // control (control_messages.cpp)
    [[nodiscard]] bool take_messages(Time now);
    void on_message(const channel::Message& message, std::size_t lane, Time now);
    void on_send_octets(Flow& flow, const channel::Message& message, Time now);
    void on_open_backend(Flow& flow, const channel::OpenBackend& request, Time now);
    void on_handoff(Flow& flow, const channel::Message& message, Time now);
    void on_end_leg(Flow& flow, const channel::EndLeg& request, Time now);
    void on_open_probe(const channel::OpenProbe& request, std::size_t lane, Time now);
    [[nodiscard]] channel::RingProducer& lane_of(const Flow& flow) noexcept;
    [[nodiscard]] bool consume_to(Leg& leg, std::uint64_t offset);
    void owe(Flow& flow, std::uint16_t what);
    void tell(Flow& flow);
    void tell_late();
    [[nodiscard]] bool write_owed(Flow& flow);
    [[nodiscard]] std::size_t lane_number(const Flow& flow) const noexcept;
    [[nodiscard]] bool tell_octets(Flow& flow, Side side);
    void count_bad_message();

    // records (record_pump.cpp)
    /// A record that was queued for opening in this round.
    struct Opening {
        Flow* flow;
        Side side;
        std::uint16_t record_length;
        std::uint16_t ticket_length;   ///< octets of its ciphertext kept in ticket_records_; 0: none
        crypto::OpenResult result;
    };
    /// What is forwarded as one record.
    struct Chunk {
        std::uint32_t offset, length;   ///< content, among the readable octets of the source
        std::uint32_t end;              ///< of all that is consumed with it
    };
    using Chunks = std::array<Chunk, OpenedRecords::kMost>;
    /// What was forwarded from one leg in this round.
    struct Sealing {
        Flow* flow;
        Side from;
        std::uint8_t records;    ///< opened ones that are done
        std::uint32_t consume;   ///< octets of the source's stream
    };
    static constexpr std::size_t kMaxTicketRecord = 4096;   ///< longer ones are not worth keeping: we resume without them
    static constexpr std::size_t kMostFlowsARound = 256;
    [[nodiscard]] bool pump(Time now);
    void queue_open(Flow& flow, Side side, Time now);
    [[nodiscard]] static std::expected<crypto::RecordHeader, std::uint8_t> parse_header(
        const std::array<std::byte, crypto::kRecordHeaderLength>& octets, const crypto::RecordProtection& protection);
    void take_opened(std::size_t i, Time now);
    [[nodiscard]] static std::size_t find_chunks(const Leg& from, std::uint32_t space, Chunks& chunks);
    [[nodiscard]] bool queue_forward(Flow& flow, Side from, Time now);
    template <typename Cursor>
    void copy_chunk(Leg& from, const Chunk& chunk, Cursor& target);
    template <typename Cursor>
    void seal_chunk(Leg& from, Leg& to, const Chunk& chunk, Cursor& target);
    void queue_seal(crypto::RecordProtection& protection, crypto::ContentType type, std::span<const crypto::ReadPiece> content,
                    std::span<const crypto::WritePiece> record, crypto::AeadBatch::OctetBehind behind);
    [[nodiscard]] bool ends_within_record(Leg& leg);
    [[nodiscard]] bool pass_on_end(Flow& flow, Side from, Time now);
    void consume(Leg& leg, std::uint32_t length);
    [[nodiscard]] std::size_t copy_from(Leg& leg, std::uint32_t offset, std::span<std::byte> to);

    // records that are not forwarded (control_records.cpp)
    void settle(Flow& flow, Side side, Time now);
    void on_control_record(Flow& flow, Side side, const OpenedRecord& record, Time now);
    void on_alert(Flow& flow, Side side, const OpenedRecord& record, Time now);
    void on_handshake(Flow& flow, Side side, const OpenedRecord& record, Time now);
    void on_key_update(Flow& flow, Side side, bool requested, Time now);
    void pass_ticket(Flow& flow, const OpenedRecord& record, std::span<const std::byte> ciphertext);
    [[nodiscard]] bool seal_now(Leg& leg, crypto::ContentType type, std::span<const std::byte> content);
    [[nodiscard]] bool send_key_update(Leg& leg, bool request);
    [[nodiscard]] bool write_key_ready(Leg& leg);
    void fail_record(Flow& flow, Side side, std::uint8_t description, EndReason reason, Time now);

    EngineSettings settings_;
    tcp::Stack& stack_;
    crypto::AeadBatch& batch_;
    DropCounters& drops_;
    EngineCounters counters_;
    FlowTable table_;
    DeadlineWheel wheel_;
    const ServiceTable* services_ = nullptr;
    std::uint32_t retimed_ = ~0u;   ///< records below this one have the idle time-outs of services_
    Lanes* lanes_ = nullptr;
    std::unique_ptr<channel::Message> message_;
    std::vector<channel::FlowId> active_;   ///< flows with records to move perhaps; in turn
    std::vector<std::deque<channel::FlowId>> put_off_;   ///< by lane: flows that its control has yet to be told of, for want of room; in turn
    /// A pass of shed() over the table so far.
    struct Shedding {
        struct Candidate {
            channel::FlowId flow{};
            std::uint32_t held = 0;   ///< packet buffers
        };
        std::uint32_t next = 0;       ///< record to go on with
        std::uint32_t holders = 0;    ///< flows that hold any
        std::uint64_t held = 0;
        Candidate moving, stuck;      ///< who holds most of those that have moved lately, and of the others
    };
    Shedding shedding_;
    std::vector<Flow*> gone_;   ///< freed at the end of the turn, so that a Flow& stays good within it
    std::vector<Flow*> round_;
    std::vector<Opening> openings_;
    std::vector<std::array<std::byte, kMaxTicketRecord>> ticket_records_;   ///< by opening
    std::size_t openings_used_ = 0;
    std::vector<Sealing> sealings_;
    std::vector<crypto::WritePiece> source_pieces_;   ///< a piece for each octet of the longest record, so that any split fits
    std::vector<crypto::WritePiece> target_pieces_;
    std::vector<crypto::WritePiece> record_pieces_;
    std::vector<crypto::ReadPiece> content_pieces_;
};

}  // namespace sallyport::flow
