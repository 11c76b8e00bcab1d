#include "control/policy/requirement.h"

#include <array>
#include <cstddef>

namespace sallyport::policy {

namespace {

constexpr std::array<RequirementText, static_cast<std::size_t>(Requirement::count_)> kRequirements{{
#define SALLYPORT_X(name, draft, final, level, title) {draft, final, level, title, draft " (" final ")"},
    SALLYPORT_REQUIREMENTS(SALLYPORT_X)
#undef SALLYPORT_X
}};

constexpr std::array<ViolationText, static_cast<std::size_t>(Violation::count_)> kViolations{{
#define SALLYPORT_X(name, requirement, alert, sentence) {#name, Requirement::requirement, alert, sentence},
    SALLYPORT_VIOLATIONS(SALLYPORT_X)
#undef SALLYPORT_X
}};

}  // namespace

const RequirementText& text(Requirement requirement) noexcept {
    return kRequirements[static_cast<std::size_t>(requirement)];
}

const ViolationText& text(Violation violation) noexcept {
    return kViolations[static_cast<std::size_t>(violation)];
}

}  // namespace sallyport::policy
