#pragma once

#include <string>
#include <vector>

#include "control/configuration/document.h"

namespace sallyport::changes {

/// A setting that two editors made different things of. Values as words; "(none)" where it is not written, "(there)" of a group or element.
struct Conflict {
    std::string path;
    std::string base, running, candidate;
};

struct Merged {
    configuration::Document document;
    std::vector<Conflict> conflicts;
};

/// What a candidate that began at `base` comes to now that `running` runs: running with the candidate's changes, setting by setting. Items that
/// both added to an array or took out are no conflict. In a conflict the document has the candidate's value, and it is told. Where the lines
/// that both changed lie apart, comments and order of both stay; else those of running. Pure function.
[[nodiscard]] Merged merge(const configuration::Document& base, const configuration::Document& running, const configuration::Document& candidate);

}  // namespace sallyport::changes
