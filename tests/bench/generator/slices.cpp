#include "tests/bench/generator/slices.h"

#include <algorithm>

namespace sallyport::generator {

std::uint64_t Slices::percentile(double percent) const {
    std::vector<std::uint64_t> of_each;
    for (const Histogram& slice : slices_)
        if (slice.count() != 0) of_each.push_back(slice.percentile(percent));
    if (of_each.empty()) return 0;
    const auto middle = of_each.begin() + static_cast<std::ptrdiff_t>((of_each.size() - 1) / 2);
    std::ranges::nth_element(of_each, middle);
    return *middle;
}

}  // namespace sallyport::generator
