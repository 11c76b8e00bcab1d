#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/management/views.h"

/// Views as text for a person: tables with a heading line, two spaces between columns, numbers to the right. Each ends
/// with LF. Quantities have SI prefixes and their unit (1.5 MB is 1,500,000 octets), times are ISO 8601. What a peer
/// may have chosen (server names, for one) is printed with control characters escaped, so that it cannot act on a
/// terminal. Pure functions.
namespace sallyport::cli {

[[nodiscard]] std::string render_text(const management::VersionView& version);
[[nodiscard]] std::string render_text(std::span<const management::PortView> ports);
[[nodiscard]] std::string render_text(std::span<const management::ServiceView> services);
[[nodiscard]] std::string render_text(std::span<const management::PoolView> pools);
[[nodiscard]] std::string render_text(const management::FlowsView& flows);
/// Counters by group; those that are 0 only when `zeroes`.
[[nodiscard]] std::string render_text(std::span<const management::CounterView> counters, bool zeroes);
[[nodiscard]] std::string render_text(std::span<const management::WorkerView> workers);
[[nodiscard]] std::string render_text(std::span<const management::PolicyView> requirements);
[[nodiscard]] std::string render_text(std::span<const management::EchView> services);
[[nodiscard]] std::string render_text(const management::RevocationView& revocation);
[[nodiscard]] std::string render_text(const management::FailuresView& failures);
[[nodiscard]] std::string render_text(const management::ReportView& report);
[[nodiscard]] std::string render_text(const management::ReloadView& reload);
[[nodiscard]] std::string render_text(std::span<const management::NeighbourView> neighbours);

/// "999 B", "1.50 kB", "12.3 MB": three significant digits.
[[nodiscard]] std::string octets(std::uint64_t count);
/// "999", "1.50 k", "12.3 M"
[[nodiscard]] std::string quantity(std::uint64_t count);
/// "250 ns", "1.50 ms", "12.3 s", "5 min 3 s", "2 h 4 min", "3 d 7 h"
[[nodiscard]] std::string duration(std::uint64_t nanoseconds);
/// "0.7 %": one digit behind the point.
[[nodiscard]] std::string percent(double share);
/// Control characters (C0, DEL and C1) as \xNN.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace sallyport::cli
