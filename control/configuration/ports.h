#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "control/configuration/reader.h"

/// Ports, addresses and routes of the configuration: what is wrong with them beyond the schema.
namespace sallyport::configuration {

/// The appliance's place in the network.
class Ports {
 public:
    /// Reads `list`, the value of `ports`. `directory` is what relative paths (memif sockets) start from; `workers` how many cores the
    /// dataplane has, 0 where that could not be read.
    Ports(Value& list, const std::filesystem::path& directory, std::size_t workers, Problems& problems);

    /// Only meaningful where no problem was found.
    [[nodiscard]] std::vector<channel::PortConfiguration>& configurations() { return configurations_; }

    /// Whether the question can be answered: false when some address or route could not be read, so that a complaint
    /// about a missing one would mislead.
    [[nodiscard]] bool complete() const { return complete_; }
    [[nodiscard]] bool has_address(const IpAddress& address) const;
    [[nodiscard]] bool reaches(const IpAddress& address) const;
    /// "192.0.2.1, 2001:db8::1", for messages.
    [[nodiscard]] std::string addresses() const;

 private:
    void port(Value& value, const std::filesystem::path& directory);
    void device(Value& value, channel::PortConfiguration& port, const std::filesystem::path& directory);
    void mac(Value& value, channel::PortConfiguration& port);
    void addresses(Value& value, channel::PortConfiguration& port);
    void address(Value& item, const channel::PortConfiguration& port, const IpPrefix& prefix);
    void routes(Value& value, channel::PortConfiguration& port);

    Problems& problems_;
    std::size_t workers_ = 0;
    std::vector<channel::PortConfiguration> configurations_;
    bool complete_ = true;
    std::map<std::string, int> names_, devices_, routes_;  ///< to the line where they were first seen
};

/// Whether a name of ours is fit for logs, metrics and commands; complains if not, or when it is in `seen` already.
void check_name(Value& value, std::map<std::string, int>& seen, std::string_view of_what, Problems& problems);

/// IpAddress, IpPrefix or SocketAddress from a good value; complains when it is none.
template <typename Parsed>
[[nodiscard]] std::optional<Parsed> parse(Value& value, Problems& problems, const char* right) {
    if (!value.good) return std::nullopt;
    auto parsed = Parsed::parse(value.text);
    if (parsed) return *parsed;
    // The value stands before the message already; the parser's advice yields to ours.
    std::string wrong = parsed.error();
    if (const std::string prefix = "'" + value.text + "' "; wrong.starts_with(prefix)) wrong.erase(0, prefix.size());
    problems.add(value, wrong.substr(0, wrong.find(';')), right);
    return std::nullopt;
}

/// Whether a connection can be made to or from it at all; complains if not.
bool check_unicast(Value& value, const IpAddress& address, Problems& problems);

}  // namespace sallyport::configuration
