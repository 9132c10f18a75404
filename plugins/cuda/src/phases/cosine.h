// From the product of two rows to their cosine.
#pragma once

#include "block.h"

namespace d2export::cuda {

// Scales are what makes a row's length 1, or 0 for a row that has no direction.
D2EXPORT_HOST_DEVICE float cosine_of(float product, float scale, float other_scale) {
    if (scale == 0.0F || other_scale == 0.0F) {
        product = 0.0F;  // which may have overflowed
    }
    return rules::multiply(rules::multiply(product, scale), other_scale);
}

}  // namespace d2export::cuda
