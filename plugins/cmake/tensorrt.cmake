# Where TensorRT's headers are (TENSORRT_INCLUDE_DIR, or OFF), and which version they declare. Only
# headers are needed: the plugin calls TensorRT through what it is handed.
include_guard(GLOBAL)

if(NOT TENSORRT_INCLUDE_DIR AND NOT TENSORRT_INCLUDE_DIR STREQUAL "OFF")
    # The installed TensorRT first, then the newest header set of the cache.
    file(GLOB cached LIST_DIRECTORIES true $ENV{HOME}/.cache/d2export/tensorrt/*/include)
    list(SORT cached COMPARE NATURAL ORDER DESCENDING)
    find_path(TENSORRT_INCLUDE_DIR NvInferRuntime.h
              HINTS ${CUDAToolkit_INCLUDE_DIRS} /usr/local/tensorrt/include
              PATHS ${cached}
              DOC "Folder of NvInferRuntime.h")
endif()

if(TENSORRT_INCLUDE_DIR AND NOT EXISTS ${TENSORRT_INCLUDE_DIR}/NvInferVersion.h)
    message(FATAL_ERROR
        "TENSORRT_INCLUDE_DIR is ${TENSORRT_INCLUDE_DIR}, which has no NvInferVersion.h. "
        "Add: -DTENSORRT_INCLUDE_DIR=<folder of NvInferRuntime.h>")
endif()

if(NOT D2EXPORT_WITH_CUDA)
    d2export_part(tensorrt LEFT_OUT "the plugin needs the CUDA part" ADD D2EXPORT_CUDA=ON)
elseif(TENSORRT_INCLUDE_DIR STREQUAL "OFF")
    d2export_part(tensorrt LEFT_OUT "TENSORRT_INCLUDE_DIR is OFF"
                           ADD "TENSORRT_INCLUDE_DIR=<folder of NvInferRuntime.h>")
elseif(NOT TENSORRT_INCLUDE_DIR)
    d2export_part(tensorrt
        LEFT_OUT "NvInferRuntime.h is not where the system keeps headers, nor in ~/.cache/d2export/tensorrt"
        ADD "TENSORRT_INCLUDE_DIR=<folder of NvInferRuntime.h>")
else()
    file(STRINGS ${TENSORRT_INCLUDE_DIR}/NvInferVersion.h lines REGEX "define (NV|TRT)_")
    set(version "")
    foreach(place IN ITEMS MAJOR MINOR PATCH)
        # 8.6 and 10 have NV_TENSORRT_MAJOR 10; later ones refer to TRT_MAJOR_ENTERPRISE 10.
        if(NOT lines MATCHES "(NV_TENSORRT_${place}|TRT_${place}_ENTERPRISE) +([0-9]+)")
            message(FATAL_ERROR
                "${TENSORRT_INCLUDE_DIR}/NvInferVersion.h does not say its ${place} version. "
                "Add: -DTENSORRT_INCLUDE_DIR=<folder of NvInferRuntime.h>")
        endif()
        list(APPEND version ${CMAKE_MATCH_2})
    endforeach()
    list(JOIN version "." D2EXPORT_TENSORRT_VERSION)
    d2export_part(tensorrt BUILT
        "with the headers of TensorRT ${D2EXPORT_TENSORRT_VERSION} in ${TENSORRT_INCLUDE_DIR}")
endif()
