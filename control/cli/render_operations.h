#pragma once

#include <span>
#include <string>

#include "control/management/views_operations.h"

/// The operational commands' views as text, by the rules of render.h. Pure functions.
namespace sallyport::cli {

[[nodiscard]] std::string render_text(std::span<const management::InstalledCertificateView> certificates);
[[nodiscard]] std::string render_text(const management::TlsView& tls);
[[nodiscard]] std::string render_text(std::span<const management::SessionView> sessions);
[[nodiscard]] std::string render_text(const management::LogView& log);
[[nodiscard]] std::string render_text(const management::FlowDetailView& flow);
[[nodiscard]] std::string render_text(const management::RatesView& totals);
[[nodiscard]] std::string render_text(std::span<const management::NameView> names);
[[nodiscard]] std::string render_text(const management::EndedView& ended);
[[nodiscard]] std::string render_text(const management::AuditEntriesView& entries);
[[nodiscard]] std::string render_text(const management::AuditVerificationView& verification);
[[nodiscard]] std::string render_text(const management::ServiceTestView& test);
[[nodiscard]] std::string render_text(const management::BundleView& bundle);

}  // namespace sallyport::cli
