#include "control/flows/handshake_worker.h"

#include "control/daemon/logging.h"

/// Plain HTTP: one request's head is read and answered; no TLS, no backend, ever.
namespace sallyport::flows {

using channel::EndHow;
using channel::EndReason;
using channel::FlowId;
using channel::Leg;

using http::RedirectReader;

void HandshakeWorker::on_redirect_opened(std::size_t lane, FlowId id, std::shared_ptr<Runtime> runtime, std::uint32_t number,
                                         const SocketAddress& client) {
    auto connected = runtime->brake->connect(client.address, Clock::now());
    if (!connected) {
        ++runtime->redirects[number]->refused;
        end_leg(lane, id, Leg::client, 0, EndHow::reset, EndReason::client_braked);
        return;
    }
    auto flow = std::make_unique<RedirectFlow>();
    flow->connected = std::move(*connected);
    flow->lane = lane;
    flow->runtime = std::move(runtime);
    flow->redirect = number;
    flow->client = client;
    Redirect& redirect = *flow->runtime->redirects[number];
    ++redirect.flows_now;
    ++redirect.flows_total;
    redirects_[id.value] = std::move(flow);
}

void HandshakeWorker::on_redirect_message(FlowId id, RedirectFlow& flow, const channel::Message& message) {
    if (flow.answered) return;
    if (message.type() == channel::MessageType::leg_closed) {   // half a request, and no more to come
        end_redirect(id, flow, EndReason::redirect_refused, "the client closed before its request was complete");
        return;
    }
    const auto* const where = message.fixed<channel::StreamOctets>();
    if (message.type() != channel::MessageType::stream_octets || where == nullptr || where->leg != Leg::client || where->offset != flow.next) return;
    const auto octets = message.payload<channel::StreamOctets>();
    flow.next += octets.size();
    const RedirectReader::Outcome outcome = flow.reader.feed(octets);
    if (outcome == RedirectReader::Outcome::more) return;
    const std::string answer = flow.reader.answer(std::chrono::system_clock::now());
    send_octets(flow.lane, id, Leg::client, 0, flow.next, std::as_bytes(std::span(answer)));
    const bool good = outcome == RedirectReader::Outcome::redirect;
    end_redirect(id, flow, good ? EndReason::redirected : EndReason::redirect_refused, flow.reader.why());
}

void HandshakeWorker::end_redirect(FlowId id, RedirectFlow& flow, EndReason reason, std::string_view why) {
    flow.answered = true;
    flow.connected.release();
    Redirect& redirect = *flow.runtime->redirects[flow.redirect];
    ++(reason == EndReason::redirected ? redirect.redirected : redirect.refused);
    end_leg(flow.lane, id, Leg::client, 0, EndHow::close, reason);
    if (daemon::logs(daemon::Level::debug))
        daemon::log(daemon::Level::debug, channel::name(reason),
                    {{"flow", text_of(id)}, {"redirect", redirect.settings.name}, {"client", flow.client.to_string()}, {"why", why}});
}

/// False when the flow is no redirect.
bool HandshakeWorker::on_redirect_ended(FlowId id, const channel::FlowEnded& ended) {
    const auto found = redirects_.find(id.value);
    if (found == redirects_.end()) return false;
    Redirect& redirect = *found->second->runtime->redirects[found->second->redirect];
    if (!found->second->answered) ++redirect.refused;   // too slow, or reset
    take_one(redirect.flows_now);
    record_redirect(id, redirect.settings.name, found->second->client, ended);
    redirects_.erase(found);
    return true;
}

}  // namespace sallyport::flows
