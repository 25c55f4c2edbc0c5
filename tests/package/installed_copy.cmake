# Installs the build into a folder of its own, builds the examples against that copy alone, and runs one of them.
set(prefix ${BUILD}/installed)
set(examples ${BUILD}/installed-examples)
file(REMOVE_RECURSE ${prefix} ${examples})

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\n${output}")
  endif()
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${examples} -G ${GENERATOR} -D CMAKE_CXX_COMPILER=${COMPILER}
    -D CMAKE_BUILD_TYPE=Release -D CMAKE_PREFIX_PATH=${prefix} -D CMAKE_FIND_USE_PACKAGE_REGISTRY=OFF)
run(${CMAKE_COMMAND} --build ${examples})

execute_process(COMMAND ${examples}/learn_stdin INPUT_FILE ${SOURCE}/learn_stdin.cc
                RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE error)
if(NOT status EQUAL 0 OR NOT output MATCHES "bits per byte")
  message(FATAL_ERROR "learn_stdin: ${status}\n${output}\n${error}")
endif()
run(${prefix}/bin/brood --version)
