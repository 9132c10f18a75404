/// @file
/// What the shared library shows to programs; everything else in it is hidden.
#pragma once

#define D2EXPORT_API __attribute__((visibility("default")))
