/* Events, processes and topology of the stubbed driver. Included by nvml_stub.c, whose state and control file it shares. */
