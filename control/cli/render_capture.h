#pragma once

#include <string>

#include "control/management/views_capture.h"

/// Captures and pings as text for a person; see render.h. Pure functions.
namespace sallyport::cli {

/// What was started or stopped: one capture, a line for each thing that there is to say.
[[nodiscard]] std::string render_text(const management::CaptureView& capture);
/// Captures, then files.
[[nodiscard]] std::string render_text(const management::CapturesView& captures);
/// What a ping has brought from probe `from` on: one line each, without those that still wait; after the last one the summary.
[[nodiscard]] std::string render_text(const management::PingView& ping, std::size_t from = 0);

}  // namespace sallyport::cli
