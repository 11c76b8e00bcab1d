#pragma once

#include "control/cli/session.h"

namespace sallyport::cli {

/// Lines from the terminal until the person leaves. The exit code is kOk, however the commands ended.
int run_shell(Session& session);

/// Lines from stdin, as a script: empty ones and those that begin with # are passed over; the first that fails ends it, with its exit code.
int run_script(Session& session);

/// One line. What is wrong with it is shown with its place.
int run_line(Session& session, const Line& line, std::string_view text);

}  // namespace sallyport::cli
