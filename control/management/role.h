#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

/// Who may do what on the management socket. Everybody may connect to it; the role decides.
namespace sallyport::management {

/// Each may do what those before it may.
enum class Role : std::uint8_t {
    none,           ///< nothing at all
    read_only,      ///< look at what runs
    operator_,      ///< act on what runs, without changing the configuration
    administrator,  ///< change the configuration, and take out what only administrators should see
};

/// "no role", "read-only", "operator", "administrator"
[[nodiscard]] std::string_view name_of(Role role) noexcept;

/// What a command asks of its caller.
struct Access {
    Role least = Role::read_only;
    bool audited = true;  ///< false: polling and completion, which would drown what matters
    bool changes = true;  ///< of an administrator's command: it is not run before the audit log has an entry on the disk that it begins
    /// Which role the command needs with these arguments, if that is more than `least`. They may be anything, of any type. nullptr: never more.
    Role (*least_with)(const nlohmann::json& arguments) = nullptr;
};

/// The Unix groups that give roles, by number; nullopt: there is no such group. Root and the user that control runs as
/// are administrators without any.
struct RoleGroups {
    std::optional<std::uint32_t> administrators{}, operators{}, readers{};

    /// The highest role that a process with these ids has.
    [[nodiscard]] Role role_of(std::uint32_t uid, std::uint32_t gid,
                               std::span<const std::uint32_t> supplementary) const noexcept;
};

/// A user's name, or "uid 1234" where the system knows none.
[[nodiscard]] std::string user_name(std::uint32_t uid);

}  // namespace sallyport::management
