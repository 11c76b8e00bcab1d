#include "control/revocation/crl_set.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include "control/certificates/openssl.h"
#include "control/revocation/asn1_time.h"
#include "control/revocation/crl_list.h"

namespace sallyport::revocation {

namespace {

using KeyDigest = std::array<unsigned char, 32>;

/// Issuers are told apart by their keys: the certificates of one may differ (cross-signed, renewed). Names are compared beside.
std::optional<KeyDigest> key_digest(const X509* issuer) {
    KeyDigest digest{};
    unsigned length = digest.size();
    if (X509_pubkey_digest(issuer, EVP_sha256(), digest.data(), &length) != 1) return std::nullopt;
    return digest;
}

/// Why a verified list may not stand in the place of `before`; empty: it may. An attacker who can answer for a CRL server must not be
/// able to take a revocation back with a list of yesterday.
std::string older(const CrlList& list, const CrlList& before) {
    if (list.this_update < before.this_update)
        return "the CRL is older (thisUpdate " + time_text(list.this_update) + ") than the one at hand (" +
               time_text(before.this_update) + ")";
    if (list.number && before.number && ASN1_INTEGER_cmp(list.number.get(), before.number.get()) < 0)
        return "the CRL's number is lower than that of the one at hand";
    if (!list.number && before.number) return "the CRL has no number, the one at hand has";
    return "";
}

}  // namespace

struct CrlSet::State {
    mutable std::shared_mutex mutex;
    std::map<KeyDigest, std::vector<std::shared_ptr<const CrlList>>> by_key;
};

CrlSet::CrlSet() : state_(std::make_unique<State>()) {}
CrlSet::~CrlSet() = default;

std::string CrlSet::add(std::span<const std::byte> octets, X509* issuer, Clock::time_point now,
                        Clock::time_point* next_update, bool* changed) {
    auto read = read_crl(octets, issuer, now);
    if (!read) return std::move(read.error());
    const auto key = key_digest(issuer);
    if (!key) return "the issuer's key cannot be read: " + openssl::error_queue();
    const auto list = std::make_shared<const CrlList>(std::move(*read));

    const std::unique_lock lock(state_->mutex);
    auto& lists = state_->by_key[*key];
    const auto same = std::ranges::find_if(lists, [&](const auto& before) {
        return before->scope == list->scope &&
               X509_NAME_cmp(X509_get_subject_name(before->issuer.get()), X509_get_subject_name(issuer)) == 0;
    });
    const bool identical = same != lists.end() && (*same)->digest == list->digest;
    if (same == lists.end()) {
        lists.push_back(list);
    } else if (!identical) {
        if (std::string why = older(*list, **same); !why.empty()) return why;
        *same = list;
    }
    if (next_update != nullptr) *next_update = list->next_update;
    if (changed != nullptr) *changed = *changed || !identical;
    return "";
}

Verdict CrlSet::check(const X509* certificate, X509* issuer, Clock::time_point now) const {
    const auto key = key_digest(issuer);
    if (!key) {
        ERR_clear_error();
        return {.why = "the issuer's key cannot be read"};
    }
    const std::shared_lock lock(state_->mutex);
    const auto found = state_->by_key.find(*key);
    const auto serial = serial_of(X509_get0_serialNumber(certificate));
    if (!serial) return {.why = "the certificate's serial number is longer than 20 octets (RFC 5280 4.1.2.2)"};

    Verdict verdict{.why = "there is no CRL of its issuer"};
    if (found == state_->by_key.end()) return verdict;
    for (const auto& list : found->second) {
        if (X509_NAME_cmp(X509_get_subject_name(list->issuer.get()), X509_get_issuer_name(certificate)) != 0) continue;
        if (const RevokedEntry* entry = list->find(*serial))
            return {.standing = Standing::revoked,
                    .why = "revoked at " + time_text(Clock::from_time_t(entry->revoked_at)) + " (" +
                           reason_text(entry->reason) + "), says the CRL of " + time_text(list->this_update),
                    .until = list->next_update,
                    .since = list->this_update};
        if (!list->covers(certificate)) {
            if (verdict.until == Clock::time_point{}) verdict.why = "no CRL of its issuer is for this certificate";
            continue;
        }
        if (verdict.until >= list->next_update) continue;
        const bool fresh = now < list->next_update;
        verdict = {.standing = fresh ? Standing::good : Standing::unknown,
                   .why = fresh ? "not in the CRL of " + time_text(list->this_update)
                                : "its issuer's CRL is stale since " + time_text(list->next_update),
                   .until = list->next_update,
                   .since = list->this_update};
    }
    return verdict;
}

bool CrlSet::empty() const {
    const std::shared_lock lock(state_->mutex);
    return state_->by_key.empty();
}

Clock::time_point CrlSet::next_update() const {
    const std::shared_lock lock(state_->mutex);
    std::optional<Clock::time_point> nearest;
    for (const auto& [key, lists] : state_->by_key)
        for (const auto& list : lists) nearest = std::min(nearest.value_or(list->next_update), list->next_update);
    return nearest.value_or(Clock::time_point{});
}

}  // namespace sallyport::revocation
