#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "control/channel/object_id.h"
#include "control/flows/handshake_worker.h"
#include "crypto/check.h"
#include "tests/certificates.h"

/// A HandshakeWorker with one lane, of which the test is the dataplane's end. The worker has its own thread; settle() waits for it.
namespace sallyport::test {

/// A service "www" (index 0) with one certificate and a TLS pool of one member, and a redirect (index 1). Generation 7. `ca` signs the
/// service's certificate, and is what the pool trusts. `change` has the last word on the configuration.
[[nodiscard]] inline std::shared_ptr<flows::Runtime> small_runtime(const configuration::Brake& brake = {}, const Identity& ca = make_ca("Test CA"),
                                                                   std::optional<configuration::HealthCheck> health = {},
                                                                   const std::function<void(configuration::Configuration&)>& change = {}) {
    const TemporaryDirectory directory;
    make_leaf({"www.example"}, ca).write(directory.path(), "leaf");
    configuration::Configuration result;
    result.policy_level = 1;
    result.brake = brake;
    result.dataplane.generation = 7;
    configuration::Pool pool;
    pool.name = "web";
    configuration::Member member;
    member.name = "one";
    member.address = SocketAddress::parse("198.51.100.1:443").value();
    pool.members = {member};
    pool.health = health;
    pool.tls.emplace();
    pool.tls->trust = {directory.write("ca.pem", ca.certificate_pem())};
    pool.tls->anchors = {std::shared_ptr<X509>(X509_dup(ca.certificate.get()), X509_free)};
    pool.tls->server_name = "web.internal";
    pool.tls->versions = {configuration::TlsVersion::tls13};
    result.pools = {pool};
    configuration::Service service;
    service.name = "www";
    configuration::CertificateFiles files;
    files.certificate = directory.path() / "leaf.pem";
    files.key = directory.path() / "leaf.key";
    auto chain = certificates::load_certificate_chain(files.certificate, files.key, 1, std::chrono::system_clock::now());
    SALLYPORT_CHECK(chain);
    files.chain = std::make_shared<const certificates::CertificateChain>(std::move(*chain));
    service.certificates = {files};
    service.versions = {configuration::TlsVersion::tls13, configuration::TlsVersion::tls12};
    result.services = {service};
    configuration::Redirect redirect;
    redirect.name = "plain";
    result.redirects = {redirect};
    if (change) change(result);
    return std::make_shared<flows::Runtime>(std::move(result));   // has read the files when the directory goes
}

class Dataplane {
 public:
    /// `log`: of flows' ends; nullptr: none. Borrowed.
    explicit Dataplane(std::shared_ptr<flows::Runtime> runtime, telemetry::FlowLog* log = nullptr)
        : memory_(std::make_shared<channel::SharedMemory>(channel::SharedMemory::create(1).value())),
          producer_(memory_->ring_to_control(0)),
          consumer_(memory_->ring_to_dataplane(0)),
          wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
          message_(std::make_unique<channel::Message>()) {
        if (log != nullptr) worker.log_flows_to(*log);
        worker.start();
        worker.use(std::move(runtime));
        attach();
    }
    void attach() {
        std::vector<flows::Lane> lanes;
        lanes.push_back({channel::RingConsumer(memory_->ring_to_control(0)), channel::RingProducer(memory_->ring_to_dataplane(0))});
        worker.attach(memory_, std::move(lanes), channel::Descriptor(dup(wake_.get())));
    }

    /// Another dataplane, with memory of its own.
    void attach_anew() {
        memory_ = std::make_shared<channel::SharedMemory>(channel::SharedMemory::create(1).value());
        producer_ = channel::RingProducer(memory_->ring_to_control(0));
        consumer_ = channel::RingConsumer(memory_->ring_to_dataplane(0));
        attach();
    }

    struct Seen {
        channel::MessageType type;
        channel::FlowId flow;
        std::string payload;        ///< of send_octets
        channel::Leg leg;           ///< of send_octets
        std::uint64_t consumed;     ///< of send_octets
        std::uint64_t probe;        ///< of open_probe
        channel::EndReason reason;  ///< of end_leg
    };

    template <typename Fixed>
    void tell(channel::MessageType type, channel::FlowId flow, const Fixed& fixed, std::span<const std::byte> payload = {}) {
        SALLYPORT_CHECK(producer_.write(type, flow, fixed, payload));
    }
    void tell_raw(channel::MessageType type, channel::FlowId flow, std::span<const std::byte> fixed) { (void)producer_.write(type, flow, fixed); }
    /// `service`: 0 the service, 1 the redirect, else none that there is.
    void open(channel::FlowId flow, std::uint32_t service) {
        open_by_id(flow, service == 0 ? channel::service_id("www") : service == 1 ? channel::redirect_id("plain") : service);
    }
    void open_by_id(channel::FlowId flow, std::uint64_t service) {
        tell(channel::MessageType::flow_opened, flow,
             channel::FlowOpened{SocketAddress::parse("192.0.2.1:1234").value(), SocketAddress::parse("192.0.2.10:80").value(), service});
    }
    void octets(channel::FlowId flow, std::uint64_t offset, std::string_view text) {
        tell(channel::MessageType::stream_octets, flow, channel::StreamOctets{channel::Leg::client, 0, offset},
             std::as_bytes(std::span(text.data(), text.size())));
    }
    /// Shows the worker what was told, and does not wait for it.
    void publish() {
        if (!producer_.publish()) return;
        const std::uint64_t one = 1;
        SALLYPORT_CHECK(write(wake_.get(), &one, sizeof one) == sizeof one);
    }
    /// Octets of messages that the worker has not taken.
    [[nodiscard]] std::uint64_t untaken() const { return producer_.used(); }
    /// Makes the worker take all that was told, and returns what it answered.
    [[nodiscard]] std::vector<Seen> settle() {
        publish();
        std::vector<Seen> seen;
        while (producer_.used() != 0 && !worker.broken()) {
            take(seen);   // its ring must not fill up
            std::this_thread::yield();
        }
        // Waits for the message that it works on: it publishes what it answers before it lets go of the sessions.
        while (worker.load().waiting != 0 && !worker.broken()) {
            take(seen);
            std::this_thread::yield();
        }
        take(seen);
        return seen;
    }
    flows::HandshakeWorker worker{0, 1};

 private:
    void take(std::vector<Seen>& seen) {
        while (consumer_.read(*message_)) {
            Seen each{.type = message_->type(), .flow = message_->flow(), .payload = {}, .leg = {}, .consumed = 0, .probe = 0, .reason = channel::EndReason::none};
            if (const auto* const probe = message_->fixed<channel::OpenProbe>(); each.type == channel::MessageType::open_probe && probe != nullptr)
                each.probe = probe->probe;
            if (const auto* const sent = message_->fixed<channel::SendOctets>(); each.type == channel::MessageType::send_octets && sent != nullptr) {
                each.leg = sent->leg;
                each.consumed = sent->consumed;
                const auto payload = message_->payload<channel::SendOctets>();
                each.payload.assign(reinterpret_cast<const char*>(payload.data()), payload.size());
            }
            if (each.type == channel::MessageType::end_leg)
                if (const auto* const end = message_->fixed<channel::EndLeg>()) each.reason = static_cast<channel::EndReason>(end->reason);
            seen.push_back(std::move(each));
        }
    }
    std::shared_ptr<channel::SharedMemory> memory_;
    channel::RingProducer producer_;
    channel::RingConsumer consumer_;
    channel::Descriptor wake_;
    std::unique_ptr<channel::Message> message_;
};

}  // namespace sallyport::test
