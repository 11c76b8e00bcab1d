#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "control/channel/ring.h"
#include "control/channel/shared_memory.h"
#include "control/flows/negotiations.h"
#include "control/flows/runtime.h"
#include "control/flows/secret_files.h"
#include "control/handshake/operation_batch.h"
#include "control/http/redirect.h"
#include "control/telemetry/flow_log.h"

namespace sallyport::flows {

/// One end of a lane, as a handshake worker holds it.
struct Lane {
    channel::RingConsumer from_dataplane;
    channel::RingProducer to_dataplane;
};

/// A thread that does the handshakes of the flows whose lanes it has, both legs of each; chooses pool members; answers plain HTTP with
/// redirects; runs health checks.
/// Owns its sessions; other threads speak to it by post().
class HandshakeWorker {
 public:
    /// `secrets`: the captures that want them; nullptr: there are none. Borrowed.
    HandshakeWorker(unsigned index, unsigned count, SecretFiles* secrets = nullptr);
    ~HandshakeWorker();   ///< stops the thread
    HandshakeWorker(const HandshakeWorker&) = delete;
    HandshakeWorker& operator=(const HandshakeWorker&) = delete;

    /// Each flow's end is told to `log`, which outlives this. Once, before start().
    void log_flows_to(telemetry::FlowLog& log) noexcept { flow_log_ = &log; }
    void start();
    void stop();
    /// What use() will be given next: flows of services that it alone has are served with it from now on, so that none that the dataplane
    /// opens under a new configuration is lost. nullptr: nothing will come of it. Any thread; returns when done.
    void prepare(std::shared_ptr<Runtime> next);
    /// New flows use this from now on. Handshakes that have begun keep what they began with; flows whose handshakes are done go over to it where
    /// it has their service, pool and member, so that nothing of an old configuration outlives them. Ends flows that recheck() would. Any thread;
    /// returns when done.
    void use(std::shared_ptr<Runtime> runtime);
    /// After CRLs, trust anchors or lists of names have changed: ends flows whose client's or backend's certificate `runtime` would not let in
    /// any more, anywhere in its chain. Any thread; returns when done.
    void recheck(std::shared_ptr<Runtime> runtime);
    /// One lane for each worker of the dataplane, and the eventfd that the dataplane wakes us by. Any thread; returns when done.
    void attach(std::shared_ptr<channel::SharedMemory> memory, std::vector<Lane> lanes, channel::Descriptor wake);
    /// The dataplane is gone: forgets all its flows, and waits no longer for room in its rings. Any thread; returns when done.
    void detach();

    /// What control knows of a flow beyond what the dataplane does.
    struct FlowInfo {
        std::string service, server_name, alpn, pool, member;
        std::string anchor;            ///< that the member's certificate led to, or "pin"; empty: plain text, or not yet
        std::string client_identity;   ///< subject of the client's verified certificate; empty: none
        std::uint16_t version = 0;
        bool resumed = false;
        std::uint16_t backend_version = 0, backend_suite = 0;
        std::string signature_scheme;
        bool negotiated = false;       ///< the client's handshake is done
        bool extended_master_secret = false;
        handshake::EchOutcome ech = handshake::EchOutcome::none;
        std::string backend_subject;   ///< of the member's verified certificate
        std::string client_issuer, client_serial;
        std::vector<std::string> client_names;
    };
    [[nodiscard]] std::optional<FlowInfo> info(channel::FlowId flow);
    /// Sessions now, and of them with a handshake that is not done; those whose client has spoken and waits for its turn.
    struct Load {
        std::size_t sessions = 0, handshakes = 0, backend_contexts = 0, redirects = 0, waiting = 0;
        handshake::OperationBatch::Counts key_operations{};   ///< since the start
    };
    [[nodiscard]] Load load();
    /// True when the dataplane has spoilt a lane, or has not emptied a full one for half a second: the main thread must drop the attachment.
    /// From then on nothing is sent and nothing waits, until attach().
    [[nodiscard]] bool broken() const noexcept { return broken_.load(std::memory_order_relaxed); }

 private:
    using Clock = std::chrono::steady_clock;

    static constexpr std::uint8_t kMaxAttempts = 3;   ///< members that are tried for one flow before the client is told

    /// What a flow needs until both its handshakes are done.
    struct Opening {
        ~Opening();                                           ///< wipes the keys
        std::uint64_t client_next = 0;                        ///< stream offset of the octet that comes next
        bool begun = false;                                   ///< the client's first octets have been looked at, or never will be
        std::vector<std::byte> first_octets;                  ///< until then
        Brake::Connected connected;                           ///< from the first segment to the end of the client's handshake
        Brake::Started started;                               ///< from the ClientHello to the end of the client's handshake
        std::optional<SecretFiles::Clock::time_point> secrets_since;   ///< it began while a capture wanted secrets
        bool backend_wanted = false;
        std::uint64_t backend_next = 0;
        Clock::time_point backend_began{};
        std::optional<channel::Handoff> held_handoff;         ///< waits for the client's, for what the PROXY header says
        channel::EndReason backend_failure = channel::EndReason::none;
    };
    /// One flow, from its first octet to its end: most of its life it rests, and there may be a million of them. Hence no more here than that needs.
    struct Session {
        channel::FlowId id;
        std::shared_ptr<Runtime> runtime;
        std::unique_ptr<Opening> opening;                     ///< until both handshakes are done
        std::unique_ptr<handshake::ServerHandshake> server;   ///< from the client's first octets until it is handed off, or has failed
        std::unique_ptr<handshake::ClientHandshake> backend;  ///< until the hand-off, or until no more tickets can come
        std::shared_ptr<const handshake::Negotiated> negotiated;           ///< of the client's leg; nullptr: not yet
        std::shared_ptr<const handshake::Negotiated> backend_negotiated;   ///< of the backend's, whose identity is verified; nullptr: not yet, or plain text
        Clock::time_point began{};
        std::chrono::nanoseconds client_took{-1}, backend_took{-1};   ///< handshakes; negative: not done, or none
        std::optional<std::uint32_t> member;                  ///< counted on the pool
        std::array<std::uint32_t, kMaxAttempts> members{};    ///< that have been tried, as many as attempts
        std::uint32_t service = 0;                            ///< position in the runtime
        std::uint32_t pool = 0;
        SocketAddress client, local;
        std::uint16_t lane = 0;
        std::uint8_t attempt = 0;
        bool client_done = false, backend_done = false;
        bool ended = false;                                   ///< we have told the dataplane to end it
        [[nodiscard]] std::span<const std::uint32_t> tried() const { return std::span(members).first(attempt); }
        /// Nothing of the client's handshake has been looked at yet.
        [[nodiscard]] bool client_is_waited_for() const noexcept { return opening && !opening->begun; }
        /// The client's handshake is neither done nor failed.
        [[nodiscard]] bool client_shakes_hands() const noexcept { return server || client_is_waited_for(); }
    };
    static_assert(sizeof(Session) <= 256);
    /// A connection to a listener for plain HTTP.
    struct RedirectFlow {
        std::size_t lane = 0;
        std::shared_ptr<Runtime> runtime;
        std::uint32_t redirect = 0;
        SocketAddress client;
        Brake::Connected connected;  ///< until it is answered
        std::uint64_t next = 0;      ///< stream offset of the octet that comes next
        bool answered = false;
        http::RedirectReader reader;
    };
    struct Check {   ///< a health check that runs
        std::uint32_t pool = 0, member = 0;
        std::uint64_t probe = 0;
        channel::FlowId flow{};
        std::size_t lane = 0;
        std::shared_ptr<Runtime> runtime;
        std::unique_ptr<handshake::ClientHandshake> handshake;
        std::uint64_t next = 0;
        Clock::time_point deadline{};
    };
    struct Health {   ///< of a member that this worker checks
        std::uint32_t pool = 0, member = 0;
        std::uint32_t good = 0, bad = 0;
        Clock::time_point next{};
        bool running = false;
    };

    void run();
    [[nodiscard]] bool take_messages();
    void on_message(std::size_t lane, const channel::Message& message);
    void on_flow_opened(std::size_t lane, channel::FlowId id, const channel::FlowOpened& opened);
    void on_client_octets(Session& session, std::uint64_t offset, std::span<const std::byte> octets);
    [[nodiscard]] std::size_t begin_newcomers(std::size_t most);
    [[nodiscard]] bool begin_newcomer();
    void begin_handshake(Session& session);
    void in_batch(channel::FlowId flow, std::move_only_function<void()> work);
    void finish_batch();
    void give_way();
    void rest(Clock::time_point now);
    void work_on_client(Session& session, std::span<const std::byte> octets);
    void work_on_backend(Session& session, std::span<const std::byte> octets);
    void on_backend_octets(Session& session, const channel::StreamOctets& where, std::span<const std::byte> octets);
    void on_backend_opened(Session& session);
    void on_backend_lost(Session& session, channel::EndReason reason, const handshake::Failure& failure);
    void on_flow_ended(channel::FlowId id, const channel::FlowEnded& ended);
    /// Gives the flow's record to the log; the session is as it was when it ended.
    void record_flow(channel::FlowId id, const Session& session, const channel::FlowEnded& ended, const char* reason, const char* sentence) const;
    /// Of a flow that outlived the control that opened it, and of which the dataplane's word is all that is known.
    void record_adopted_flow(channel::FlowId id, const channel::FlowEnded& ended) const;
    void record_redirect(channel::FlowId id, const std::string& redirect, const SocketAddress& client, const channel::FlowEnded& ended) const;
    void on_client_done(Session& session);
    void begin_backend(Session& session);
    void try_member(Session& session);
    void give_up_backend(Session& session);
    void finish_backend(Session& session);
    void await_tickets(channel::FlowId id);
    void hand_off_backend(Session& session, channel::Handoff handoff);
    void leave_member(Session& session);
    void refuse_client(Session& session, const handshake::Failure& failure);
    void write_secrets(const Session& session, handshake::KeyLog* log);
    [[nodiscard]] bool admit(Session& session, const handshake::Offer& offer);
    void record_client_failure(Session& session, const handshake::Failure& failure, channel::EndReason reason);
    void record_backend_failure(const Session& session, const configuration::Member& member, const handshake::Failure& failure,
                                channel::EndReason reason);
    [[nodiscard]] static Pool& pool_of(const Session& session);
    [[nodiscard]] static handshake::Failure plain_text_refused();
    struct Objection {   ///< to a certificate that was good when it was verified
        policy::Violation violation;
        std::string subject, why;
    };
    [[nodiscard]] static std::optional<Objection> object_to_client(const Session& session, const Runtime& runtime);
    [[nodiscard]] static std::optional<Objection> object_to_backend(const Session& session, const Runtime& runtime);
    [[nodiscard]] static std::optional<Objection> no_longer_good(const Session& session, const Runtime& runtime);
    [[nodiscard]] const Runtime& current(const Session& session) const;
    void end_no_longer_good(Session& session, const Objection& objection);
    [[nodiscard]] static std::string text_of(channel::FlowId id);
    [[nodiscard]] static channel::EndReason reason_of(std::uint8_t value) noexcept;

    void end_if_untrusted(Session& session, const Runtime& runtime);
    void move_over(Session& session) const;
    void settle(Session& session);

    void on_redirect_opened(std::size_t lane, channel::FlowId id, std::shared_ptr<Runtime> runtime, std::uint32_t redirect, const SocketAddress& client);
    void on_redirect_message(channel::FlowId id, RedirectFlow& flow, const channel::Message& message);
    [[nodiscard]] bool on_redirect_ended(channel::FlowId id, const channel::FlowEnded& ended);
    void end_redirect(channel::FlowId id, RedirectFlow& flow, channel::EndReason reason, std::string_view why);

    [[nodiscard]] bool send(std::size_t lane, channel::MessageType type, channel::FlowId flow, std::span<const std::byte> fixed,
                            std::span<const std::byte> payload = {});
    template <typename Fixed>
    [[nodiscard]] bool send(std::size_t lane, channel::MessageType type, channel::FlowId flow, const Fixed& fixed,
                            std::span<const std::byte> payload = {}) {
        return send(lane, type, flow, std::as_bytes(std::span(&fixed, 1)), payload);
    }
    void send_octets(std::size_t lane, channel::FlowId flow, channel::Leg leg, std::uint8_t attempt, std::uint64_t consumed,
                     std::span<const std::byte> octets);
    /// After a backend's octets: sends what our handshake with it says, or at times only that it has consumed them.
    void answer_backend(std::size_t lane, channel::FlowId flow, std::uint8_t attempt, std::uint64_t consumed_before, std::uint64_t consumed,
                        std::span<const std::byte> octets);
    void end_leg(std::size_t lane, channel::FlowId flow, channel::Leg leg, std::uint8_t attempt, channel::EndHow how,
                 channel::EndReason reason);

    void plan_health(const Runtime* before);
    void run_health(Clock::time_point now);
    void begin_check(Health& health, Clock::time_point now);
    void on_check_message(Check& check, const channel::Message& message);
    void fail_check(Check& check, const handshake::Failure& failure);
    void end_check(std::uint64_t probe, const std::string& failure);
    [[nodiscard]] Clock::time_point next_health() const;

    void post(std::function<void()> task);
    void wait(Clock::time_point until);

    telemetry::FlowLog* flow_log_ = nullptr;
    unsigned index_, count_;
    SecretFiles* secrets_;
    std::thread thread_;
    std::atomic<bool> stopping_{false};
    std::atomic<bool> broken_{false};
    channel::Descriptor wake_for_tasks_;
    std::mutex tasks_mutex_;
    std::vector<std::function<void()>> tasks_;

    std::mutex sessions_mutex_;   ///< held while messages are worked on; info() and load() take it too
    Negotiations negotiations_;
    /// What lives as long as flows lies apart from what handshakes take, which would otherwise be kept in pieces between.
    std::pmr::unsynchronized_pool_resource memory_of_sessions_;
    std::pmr::unordered_map<std::uint64_t, Session> sessions_{&memory_of_sessions_};
    std::deque<channel::FlowId> newcomers_;          ///< whose client has spoken for the first time, and those of them that have ended since; the oldest first
    std::uint64_t opened_since_trim_ = 0;
    Clock::time_point last_busy_{}, gave_way_{};
    std::size_t turns_ = 0;                          ///< of take_messages()
    std::size_t begun_last_turn_ = 0;                ///< newcomers, in the last turn that had time for all messages
    bool newest_was_served_ = false;                 ///< by the last begin_newcomer() that served one
    std::deque<channel::FlowId> awaiting_tickets_;   ///< whose handshake with the member waits for tickets, or did; the oldest first
    std::unordered_map<std::uint64_t, std::unique_ptr<RedirectFlow>> redirects_;
    std::unordered_map<std::uint64_t, std::unique_ptr<Check>> checks_;         ///< by probe number
    std::unordered_map<std::uint64_t, std::uint64_t> check_of_flow_;
    std::vector<Health> health_;
    std::uint64_t next_probe_ = 1;

    std::shared_ptr<Runtime> runtime_;
    std::shared_ptr<Runtime> prepared_;
    std::shared_ptr<channel::SharedMemory> memory_;
    std::vector<Lane> lanes_;
    channel::Descriptor wake_;
    std::unique_ptr<channel::Message> message_;
    handshake::OperationBatch batch_;   ///< handshakes that have stopped for an operation with keys; none at the end of take_messages()
};

}  // namespace sallyport::flows
