#include "control/management/role.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "crypto/format.h"

namespace sallyport::management {

std::string_view name_of(Role role) noexcept {
    switch (role) {
        case Role::none:
            return "no role";
        case Role::read_only:
            return "read-only";
        case Role::operator_:
            return "operator";
        case Role::administrator:
            return "administrator";
    }
    return "no role";
}

Role RoleGroups::role_of(std::uint32_t uid, std::uint32_t gid,
                         std::span<const std::uint32_t> supplementary) const noexcept {
    if (uid == 0 || uid == geteuid()) return Role::administrator;
    const auto member = [&](const std::optional<std::uint32_t>& group) {
        return group && (gid == *group || std::ranges::contains(supplementary, *group));
    };
    if (member(administrators)) return Role::administrator;
    if (member(operators)) return Role::operator_;
    return member(readers) ? Role::read_only : Role::none;
}

std::string user_name(std::uint32_t uid) {
    passwd entry{};
    passwd* found = nullptr;
    std::vector<char> buffer(16384);
    if (getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) return found->pw_name;
    return sallyport::format("uid {}", uid);
}

}  // namespace sallyport::management
