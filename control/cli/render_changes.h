#pragma once

#include <span>
#include <string>

#include "control/management/views_changes.h"

/// What `configuration ...` answers, as text for a person; as render.h.
namespace sallyport::cli {

[[nodiscard]] std::string render_text(const management::OpenedView& opened);
/// As it is: the text is the administrator's own file. Control characters but LF and TAB are escaped.
[[nodiscard]] std::string render_text(const management::TextView& text);
[[nodiscard]] std::string render_text(const management::ProblemsView& problems);
[[nodiscard]] std::string render_text(const management::CommitView& commit);
[[nodiscard]] std::string render_text(const management::UpdateView& update);
[[nodiscard]] std::string render_text(std::span<const management::RevisionView> revisions);

/// A unified diff with its added lines in green and its removed ones in red.
[[nodiscard]] std::string coloured_difference(const std::string& text);

}  // namespace sallyport::cli
