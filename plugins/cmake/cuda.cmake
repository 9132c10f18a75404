# Whether CUDA code is built (D2EXPORT_WITH_CUDA), with which compiler and for which GPUs.
#
# AUTO builds it where there is nvcc. For a Python installation there must be a GPU, too: it is made
# for the machine it is made on, and CUDA code takes minutes to compile.
include_guard(GLOBAL)

set(D2EXPORT_CUDA AUTO CACHE STRING "CUDA code: AUTO (where there is nvcc), ON or OFF")
set(D2EXPORT_NEWER_ARCHITECTURES "" CACHE STRING
    "Added to CMAKE_CUDA_ARCHITECTURES as far as this nvcc knows them")
set(D2EXPORT_WITH_CUDA OFF)

if(NOT D2EXPORT_CUDA MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "D2EXPORT_CUDA is ${D2EXPORT_CUDA}, expected AUTO, ON or OFF")
endif()

file(GLOB gpus /dev/nvidia[0-9]* /dev/nvhost-gpu /dev/nvgpu)
if(NOT CMAKE_CUDA_COMPILER AND NOT D2EXPORT_CUDA STREQUAL "OFF")
    # On a Jetson it is installed, but not on the PATH.
    find_program(D2EXPORT_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH
                 PATHS /usr/local/cuda PATH_SUFFIXES bin DOC "The CUDA compiler")
    if(D2EXPORT_NVCC)
        set(CMAKE_CUDA_COMPILER ${D2EXPORT_NVCC})
    endif()
endif()

if(D2EXPORT_CUDA STREQUAL "OFF")
    set(left_out LEFT_OUT "D2EXPORT_CUDA is OFF" ADD D2EXPORT_CUDA=ON)
elseif(NOT CMAKE_CUDA_COMPILER)
    set(left_out LEFT_OUT "nvcc is neither on the PATH nor in /usr/local/cuda/bin"
                 ADD "install the CUDA toolkit (on a Jetson: apt install cuda-toolkit)")
    if(D2EXPORT_CUDA STREQUAL "ON")
        message(FATAL_ERROR
            "D2EXPORT_CUDA is ON, but nvcc is neither on the PATH nor in /usr/local/cuda/bin. "
            "Install the CUDA toolkit, or add: -DCMAKE_CUDA_COMPILER=<toolkit>/bin/nvcc")
    endif()
elseif(D2EXPORT_CUDA STREQUAL "AUTO" AND SKBUILD AND NOT gpus)
    set(left_out LEFT_OUT "nvcc is here, but no NVIDIA GPU" ADD D2EXPORT_CUDA=ON)
else()
    set(D2EXPORT_WITH_CUDA ON)
endif()
if(NOT D2EXPORT_WITH_CUDA)
    d2export_part(cuda ${left_out})
    return()
endif()

# No macro of nvcc says so to the code.
if("$ENV{CUDAFLAGS} ${CMAKE_CUDA_FLAGS}" MATCHES "use_fast_math|ftz[= ]+true")
    message(FATAL_ERROR
        "CMAKE_CUDA_FLAGS is '${CMAKE_CUDA_FLAGS}': ${CMAKE_MATCH_0} turns denormal numbers into 0, "
        "and the kernel would keep other tokens than the CPU. Leave it out")
endif()

set(of_many_gpus OFF)
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    if(gpus AND CMAKE_VERSION VERSION_GREATER_EQUAL 3.24)
        set(CMAKE_CUDA_ARCHITECTURES native)
    else()
        set(CMAKE_CUDA_ARCHITECTURES 80 86 87)
        set(of_many_gpus ON)
    endif()
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
if(of_many_gpus AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 11.8)
    list(APPEND CMAKE_CUDA_ARCHITECTURES 89 90)
endif()

if(D2EXPORT_NEWER_ARCHITECTURES)
    # An nvcc without this option knows none of them.
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE known
                    ERROR_QUIET)
    foreach(architecture IN LISTS D2EXPORT_NEWER_ARCHITECTURES)
        if(known MATCHES "compute_${architecture}\n")
            list(APPEND CMAKE_CUDA_ARCHITECTURES ${architecture})
        endif()
    endforeach()
endif()

list(JOIN CMAKE_CUDA_ARCHITECTURES " " architectures)
d2export_part(cuda BUILT "CUDA ${CMAKE_CUDA_COMPILER_VERSION} for sm ${architectures}")
