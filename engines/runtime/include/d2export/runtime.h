/// @file
/// All of the C++ interface. d2export_c.h is the same in C.
#pragma once

#include <d2export/backend.h>
#include <d2export/bundle.h>
#include <d2export/error.h>
#include <d2export/image.h>
#include <d2export/manifest.h>
#include <d2export/model.h>
#include <d2export/sampling.h>
#include <d2export/tokenizer.h>
