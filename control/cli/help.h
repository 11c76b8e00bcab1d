#pragma once

#include <span>
#include <string>
#include <vector>

#include "control/cli/grammar.h"

/// What `help` says: made from the command tree and from the configuration's schema. Pure functions.
namespace sallyport::cli {

/// Without words all commands, else how those are written that begin with the words; empty: there are none.
[[nodiscard]] std::string help_text(Mode mode, std::span<const std::string> words);

/// What a setting means, its default, its bounds, and the settings below it. Names of elements may stand in the path. Empty: there is no
/// such setting.
[[nodiscard]] std::string setting_text(std::span<const std::string> path);

/// Names of settings that can come next in such a path.
[[nodiscard]] std::vector<Candidate> settings_below(std::span<const std::string> path);

}  // namespace sallyport::cli
