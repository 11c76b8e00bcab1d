#pragma once

#include <string>

#include "control/management/views_capture.h"

/// Captures as text for a person; see render.h. Pure functions.
namespace sallyport::cli {

/// What was started or stopped: one capture, a line for each thing that there is to say.
[[nodiscard]] std::string render_text(const management::CaptureView& capture);
/// Captures, then files.
[[nodiscard]] std::string render_text(const management::CapturesView& captures);

}  // namespace sallyport::cli
