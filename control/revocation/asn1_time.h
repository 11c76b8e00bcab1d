#pragma once

#include "control/certificates/asn1_time.h"

namespace sallyport::revocation {

using certificates::time_of;
using certificates::time_text;

}  // namespace sallyport::revocation
