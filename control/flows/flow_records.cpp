#include "control/flows/handshake_worker.h"

/// What the log of flows is told when one has ended.
namespace sallyport::flows {

namespace {

constexpr const char* kEchOutcomes[] = {"none", "grease", "accepted", "rejected"};   // of handshake::EchOutcome

void put_octets(telemetry::FlowRecord& record, const channel::FlowEnded& ended) {
    record.client.octets_in = ended.client_octets_in;
    record.client.octets_out = ended.client_octets_out;
    record.backend.octets_in = ended.backend_octets_in;
    record.backend.octets_out = ended.backend_octets_out;
}

}  // namespace

void HandshakeWorker::record_flow(channel::FlowId id, const Session& session, const channel::FlowEnded& ended, const char* reason, const char* sentence) const {
    if (flow_log_ == nullptr || !flow_log_->on()) return;
    telemetry::FlowRecord record;
    record.id = text_of(id);
    record.service = session.runtime->services[session.service]->settings.name;
    record.ended = std::chrono::system_clock::now();
    // A dataplane that went away has not said how long it was.
    record.duration = ended.duration_ns != 0 ? std::chrono::nanoseconds(ended.duration_ns) : Clock::now() - session.began;
    record.local = session.local.to_string();
    record.client.peer = session.client.to_string();
    put_octets(record, ended);
    if (session.negotiated) {
        const handshake::Negotiated& negotiated = *session.negotiated;
        record.client.version = negotiated.version;
        record.client.suite = negotiated.suite;
        record.client.group = negotiated.group;
        record.client.alpn = negotiated.alpn;
        record.client.resumed = negotiated.resumed;
        record.client.handshake = session.client_took;
        record.ech = kEchOutcomes[static_cast<std::size_t>(negotiated.ech)];
        // It was hidden from the network; the log must not give it away.
        record.client.server_name = negotiated.ech == handshake::EchOutcome::accepted && !negotiated.server_name.empty() ? "protected" : negotiated.server_name;
        if (negotiated.identity) record.client_identity = negotiated.identity->subject;
    }
    if (const auto tried = session.tried(); !tried.empty()) {
        const Pool& pool = pool_of(session);
        // The last that was tried, where it stands in the configuration now.
        const configuration::Member& member = pool.settings().members[session.member.value_or(tried.back())];
        record.pool = pool.settings().name;
        record.member = member.name;
        record.attempts = static_cast<std::uint32_t>(tried.size());
        record.backend.peer = member.address.to_string();
        if (session.backend_done) {
            record.backend.plain = !pool.settings().tls;
            record.backend.handshake = session.backend_took;
            if (const auto& negotiated = session.backend_negotiated) {
                record.backend.version = negotiated->version;
                record.backend.suite = negotiated->suite;
                record.backend.group = negotiated->group;
                record.backend.resumed = negotiated->resumed;
                record.backend.alpn = negotiated->alpn;
                record.anchor = negotiated->anchor;
            }
            if (pool.settings().tls) record.backend.server_name = pool.settings().tls->server_name;
        }
    }
    record.reason = reason;
    record.sentence = sentence;
    flow_log_->add(std::move(record));
}

void HandshakeWorker::record_adopted_flow(channel::FlowId id, const channel::FlowEnded& ended) const {
    const channel::EndReason reason = reason_of(ended.reason);
    if (flow_log_ == nullptr || !flow_log_->on() || reason == channel::EndReason::probe_done) return;   // a health check of that control
    telemetry::FlowRecord record;
    record.id = text_of(id);
    record.ended = std::chrono::system_clock::now();
    record.duration = std::chrono::nanoseconds(ended.duration_ns);
    put_octets(record, ended);
    if (runtime_) {
        if (const auto at = runtime_->find_service(ended.service))
            record.service = *at < runtime_->services.size() ? runtime_->services[*at]->settings.name : runtime_->redirects[*at - runtime_->services.size()]->settings.name;
        const auto pool = ended.has_member != 0 ? runtime_->find_pool(ended.pool) : std::nullopt;
        const auto member = pool ? runtime_->pools[*pool]->find_member(ended.member) : std::nullopt;
        if (member) {
            const configuration::Pool& settings = runtime_->pools[*pool]->settings();
            record.pool = settings.name;
            record.member = settings.members[*member].name;
            record.backend.peer = settings.members[*member].address.to_string();
        }
    }
    record.reason = channel::name(reason);
    record.sentence = channel::sentence(reason);
    flow_log_->add(std::move(record));
}

void HandshakeWorker::record_redirect(channel::FlowId id, const std::string& redirect, const SocketAddress& client, const channel::FlowEnded& ended) const {
    if (flow_log_ == nullptr || !flow_log_->on()) return;
    const channel::EndReason reason = reason_of(ended.reason);
    telemetry::FlowRecord record;
    record.id = text_of(id);
    record.kind = "redirect";
    record.service = redirect;
    record.ended = std::chrono::system_clock::now();
    record.duration = std::chrono::nanoseconds(ended.duration_ns);
    record.client.peer = client.to_string();
    put_octets(record, ended);
    record.reason = channel::name(reason);
    record.sentence = channel::sentence(reason);
    flow_log_->add(std::move(record));
}

}  // namespace sallyport::flows
