# How every target is compiled.
include_guard(GLOBAL)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release or RelWithDebInfo" FORCE)
endif()

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON) # the static libraries end up in plugins
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

set(D2EXPORT_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion)
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${D2EXPORT_WARNINGS}>")

if(D2EXPORT_SANITIZE)
    list(JOIN D2EXPORT_SANITIZE "," sanitizers)
    set(sanitize -fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${sanitize}>")
    add_link_options(-fsanitize=${sanitizers})
    if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
        add_compile_options(-Wno-pass-failed) # it vectorises no checked loops, and says so
    endif()
endif()

if(D2EXPORT_FUZZ)
    if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
        message(FATAL_ERROR
            "D2EXPORT_FUZZ is ON, but the compiler is ${CMAKE_CXX_COMPILER_ID}, expected Clang: "
            "libFuzzer is part of it. Add: -DCMAKE_CXX_COMPILER=clang++")
    endif()
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()
