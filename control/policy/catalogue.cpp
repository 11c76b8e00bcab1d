#include "control/policy/catalogue.h"

#include <algorithm>
#include <array>
#include <string>

namespace sallyport::policy {

namespace {

/// Names are ASCII; asked several times in each handshake.
bool same_name(std::string_view a, std::string_view b) noexcept {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return a.size() == b.size() && std::ranges::equal(a, b, {}, lower, lower);
}

std::string suites_of(std::uint16_t version) {
    std::string list;
    for (const Suite& suite : kSuites)
        if (suite.version == version) (list += list.empty() ? "" : ":") += suite.openssl_name;
    return list;
}

bool is_hybrid(const Group& group) {
    return group.oldest_version == kTls13;
}

/// `share`: whether a group gets a key share, given what is before it: '*' (SSL_CTX_set1_groups_list(3)).
template <typename Share>
std::string groups(Share share) {
    std::string list;
    const Group* before = nullptr;
    for (const Group& group : kGroups) {
        if (before != nullptr) list += is_hybrid(*before) == is_hybrid(group) ? ':' : '/';
        if (share(before, group)) list += '*';
        list += group.openssl_name;
        before = &group;
    }
    return list;
}

std::string signature_schemes() {
    std::string list;
    for (const SignatureScheme& scheme : kSignatureSchemes) (list += list.empty() ? "" : ":") += scheme.name;
    return list;
}

template <typename Table>
auto find_id(const Table& table, std::uint16_t id) noexcept -> decltype(table.data()) {
    const auto found = std::ranges::find_if(table, [id](const auto& entry) { return entry.id == id; });
    return found == table.end() ? nullptr : &*found;
}

}  // namespace

const char* openssl_tls13_suites() noexcept {
    static const std::string list = suites_of(kTls13);
    return list.c_str();
}

const char* openssl_tls12_suites() noexcept {
    static const std::string list = suites_of(kTls12);
    return list.c_str();
}

const char* openssl_server_groups() noexcept {
    static const std::string list = groups([](const Group*, const Group&) { return false; });
    return list.c_str();
}

const char* openssl_client_groups() noexcept {
    // The first of each tuple.
    static const std::string list = groups([](const Group* before, const Group& group) { return before == nullptr || is_hybrid(*before) != is_hybrid(group); });
    return list.c_str();
}

const char* openssl_client_groups(const Group& agreed) noexcept {
    static const auto lists = [] {
        std::array<std::string, kGroups.size()> all;
        for (std::size_t i = 0; i < kGroups.size(); ++i) all[i] = groups([i](const Group*, const Group& group) { return group.id == kGroups[i].id; });
        return all;
    }();
    return lists[static_cast<std::size_t>(&agreed - kGroups.data())].c_str();
}

const char* openssl_signature_schemes() noexcept {
    static const std::string list = signature_schemes();
    return list.c_str();
}

const Suite* find_suite(std::uint16_t id) noexcept {
    return find_id(kSuites, id);
}
const Group* find_group(std::uint16_t id) noexcept {
    return find_id(kGroups, id);
}

const Group* find_group(std::string_view name) noexcept {
    const auto found = std::ranges::find_if(kGroups, [name](const Group& group) {
        return same_name(group.name, name) || same_name(group.openssl_name, name);
    });
    return found == kGroups.end() ? nullptr : &*found;
}

const SignatureScheme* find_signature_scheme(std::uint16_t id) noexcept {
    return find_id(kSignatureSchemes, id);
}

const SignatureScheme* find_signature_scheme(std::string_view name) noexcept {
    const auto found = std::ranges::find_if(
        kSignatureSchemes, [name](const SignatureScheme& scheme) { return same_name(scheme.name, name); });
    return found == kSignatureSchemes.end() ? nullptr : &*found;
}

bool is_allowed_version(std::uint16_t version, int level, bool tls12_asked_for) noexcept {
    return version == kTls13 || (version == kTls12 && (level < 3 || tls12_asked_for));
}

bool is_allowed_suite(std::uint16_t id, std::uint16_t version) noexcept {
    const Suite* suite = find_suite(id);
    return suite != nullptr && suite->version == version;
}

bool is_allowed_group(std::uint16_t id, std::uint16_t version) noexcept {
    const Group* group = find_group(id);
    return group != nullptr && version >= group->oldest_version;
}

bool is_allowed_signature_scheme(std::string_view name) noexcept {
    return find_signature_scheme(name) != nullptr;
}

}  // namespace sallyport::policy
