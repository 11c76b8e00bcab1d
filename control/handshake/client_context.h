#pragma once

#include <array>
#include <chrono>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "control/handshake/handshake.h"
#include "control/handshake/libssl.h"
#include "control/handshake/peer_certificate.h"
#include "control/policy/catalogue.h"

namespace sallyport::handshake {

/// How a member proved itself in a full handshake: kept with its sessions, in which libssl does not prove it again.
struct Proof {
    std::shared_ptr<const Identity> identity;   ///< with its chain; shared by all the flows of its sessions; nullptr: not proven yet
    std::string anchor;                     ///< as in Negotiated
    Clock::time_point stapled_until{};      ///< until when a stapled OCSP answer says good; zero: none did
};

/// A session that can be resumed.
struct KeptSession {
    openssl::Session session;
    Proof proof;
    const policy::Group* group = nullptr;   ///< that its keys were exchanged with; nullptr: not known
    Clock::time_point group_learned{};      ///< when the member agreed to that with shares of several to choose from
};

/// What the handshakes with one pool's members share: an SSL_CTX that trusts the pool's anchors and pins and nothing else, and the
/// sessions that can be resumed. They belong to this object: another configuration makes another one, so that a session never
/// outlives the anchors, the name and the client certificate that it began with. Any thread.
class ClientContext {
 public:
    static constexpr std::size_t kSessionsPerIdentity = 16;   ///< TLS 1.3 tickets are used once: some for flows that begin together
    static constexpr std::size_t kIdentities = 1024;
    /// For so long a member that resumes gets a key share of the group that it has agreed to and of no other. After that it may choose again: it may
    /// have learned a better one, which resumption alone would never show.
    static constexpr std::chrono::minutes kGroupHolds{10};

    /// Throws std::runtime_error saying what could not be loaded or what libssl refused. The pool has TLS.
    ClientContext(const configuration::Configuration& configuration, const configuration::Pool& pool, ClientMaterials materials);

    [[nodiscard]] SSL_CTX* get() const { return context_.get(); }
    /// Empty: the members are known by their pins alone.
    [[nodiscard]] const std::string& server_name() const { return server_name_; }
    /// The subject of the pool's own certificate when that has been revoked and must not be shown; nullopt: it has not, or there is none.
    [[nodiscard]] std::optional<std::string> revoked_identity() const;
    [[nodiscard]] bool name_is_address() const { return name_is_address_; }
    [[nodiscard]] bool speaks(std::uint16_t version) const { return version == TLS1_3_VERSION ? tls13_ : tls12_; }
    [[nodiscard]] bool pinned(const X509* certificate) const;
    /// Of the pinned certificates those that members have shown, with their end: the pin itself is but a hash. Any thread.
    struct SeenPin {
        std::string subject;
        Clock::time_point not_after;
    };
    [[nodiscard]] std::vector<SeenPin> pins_seen() const;
    [[nodiscard]] Identities& identities() { return identities_; }
    /// A member has shown this pinned certificate.
    void saw_pin(const X509* certificate);

    /// Names and revocation of a verified member; nullopt: good. `staple`: its OCSP answer, empty without one. Fills in proof.stapled_until.
    struct Objection {
        policy::Violation violation;
        std::string why;
    };
    [[nodiscard]] std::optional<Objection> object_to(Proof& proof, std::span<const std::byte> staple, Clock::time_point now) const;

    /// Keeps a session; the oldest of its identity goes when there are too many.
    void keep(const std::string& identity, KeptSession session);
    /// The newest session that is still good, certificates and revocation too, or nullptr. One of TLS 1.3 is given out once (RFC 8446 C.4).
    [[nodiscard]] std::unique_ptr<KeptSession> take(const std::string& identity);
    [[nodiscard]] std::size_t sessions() const;

 private:
    [[nodiscard]] bool still_good(KeptSession& kept) const;

    openssl::Context context_;
    std::string server_name_;
    bool name_is_address_ = false;
    bool tls12_ = false;
    bool tls13_ = false;
    std::vector<std::array<std::uint8_t, 32>> pins_;
    std::vector<std::string> names_;
    std::vector<SharedCertificate> anchors_;
    std::shared_ptr<const certificates::CertificateChain> own_;   ///< our certificate for the members; nullptr: none
    ClientMaterials materials_;
    Identities identities_;   ///< of members
    bool revocation_must_be_known_ = false;
    Clock::time_point revocation_waived_until_{};
    mutable std::mutex mutex_;
    std::map<std::string, std::deque<KeptSession>, std::less<>> sessions_;   ///< newest last
    std::map<certificates::Fingerprint, SeenPin> pins_seen_;                 ///< at most as many as there are pins
};

}  // namespace sallyport::handshake
