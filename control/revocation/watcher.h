#pragma once

#include <array>
#include <expected>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "control/configuration/configuration.h"
#include "control/revocation/crl_set.h"

namespace sallyport::revocation {

class OwnAnswers;   ///< what is known of own certificates: staples and revocations (own_answers.h)

/// Which rule of 9.4.3 (12.1.4) answers for an own certificate.
enum class Rule : std::uint8_t { staple, short_lived, crl, none };

/// An own certificate as it stands: for reports and alarms.
struct OwnStatus {
    std::string subject{}, file{};
    Rule rule = Rule::none;
    bool must_staple = false;      ///< it demands a staple (RFC 7633): clients that know that refuse it without one
    Standing standing = Standing::unknown;
    std::string why{};             ///< of the last attempt or verdict
    std::string url{};             ///< OCSP responder or CRL
    Clock::time_point this_update{}, next_update{}, last_attempt{}, next_attempt{};
    std::uint64_t fetched = 0, failed = 0;
};

/// A CRL source as it stands.
struct CrlStatus {
    std::string domain{};          ///< "pool NAME" or "service NAME"
    std::string source{};          ///< file or URL
    std::string why{};             ///< what went wrong last; empty: nothing
    Clock::time_point next_update{}, last_attempt{}, next_attempt{};
    std::uint64_t fetched = 0, failed = 0;
};

/// The one gate of control's outbound connections in the clear (9.2.2 (12.3.1)); every other one is TLS (telemetry/syslog_sink.h): GET or
/// POST over http, to URLs of the configuration or of own certificates only, bounded in size and time, no redirects followed. Answers the body, or why there is none. Replaced in tests.
/// The body of a 4xx or 5xx comes too when it is DER (OpenSSL's client hands it out): what counts is the signature, never the status.
/// A POST is an OCSP request: its answer may have kMostOcspOctets and no more, whatever CRLs may have.
inline constexpr std::size_t kMostOcspOctets = 64 << 10;   ///< an answer with its responder's chain has a few KB
using Fetch = std::function<std::expected<Octets, std::string>(const std::string& url, std::span<const std::byte> post, const std::string& content_type)>;
[[nodiscard]] Fetch make_fetch(const configuration::Revocation& settings);

/// A thread that keeps staples of own certificates and CRLs of trust domains fresh: fetched, verified, stored in the state directory over
/// restarts, refreshed by half their life with jitter, tried again with back-off. Any thread may ask it.
/// For client certificates no OCSP responder is asked: the client would choose the address that we connect to. CRLs answer for them.
class Watcher {
 public:
    /// Loads what an earlier run has stored, verified again at `now`; fetches and writes nothing yet.
    Watcher(const configuration::Configuration& configuration, Fetch fetch, Clock::time_point now = Clock::now());
    ~Watcher();   ///< stops the thread
    Watcher(const Watcher&) = delete;
    Watcher& operator=(const Watcher&) = delete;

    /// Forgets what is stored and not this configuration's, and begins to fetch.
    void start();
    /// From now on nothing is written or told any more, and nothing begins; a fetch that is under way ends by its time. Any thread; returns at
    /// once, but for a write to the disk.
    void stop();
    /// Everything is due now: for an administrator who does not want to wait. Any thread; returns at once.
    void refresh();
    /// Fetches what is due; what the thread does again and again. Returns when it is due next.
    Clock::time_point turn(Clock::time_point now);

    /// The fresh OCSP answer (DER) for an own certificate; nullptr: none.
    [[nodiscard]] std::shared_ptr<const Octets> staple(const certificates::CertificateChain& chain) const;
    /// Whether an own certificate has been found revoked: its service must not serve it.
    [[nodiscard]] bool revoked(const certificates::CertificateChain& chain) const;
    /// Both, for who outlives this object. Never nullptr.
    [[nodiscard]] std::shared_ptr<const OwnAnswers> answers() const;
    /// The CRLs of a pool's members, of a service's clients. Never nullptr; empty without sources.
    [[nodiscard]] std::shared_ptr<const CrlSet> of_pool(std::size_t pool) const;
    [[nodiscard]] std::shared_ptr<const CrlSet> of_service(std::size_t service) const;

    [[nodiscard]] std::vector<OwnStatus> own() const;
    [[nodiscard]] std::vector<CrlStatus> crls() const;
    /// Called in the watcher's thread after something has changed (a CRL, a staple, a revocation).
    void on_change(std::function<void()> call);

 private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace sallyport::revocation
