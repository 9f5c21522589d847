"""What crosses the wire, and the only functions that read and write it.

envelope      the shell around every Kafka message
request       a batch of essays to be compared, and why some requests are refused
callback      one answer of the judge, brought into a form that the database can hold
results       the events that we publish
provider      what we ask the LLM Provider over HTTP
error_codes   the platform's closed set of codes
topics        where each kind of event goes, and the type that its envelope names
"""
