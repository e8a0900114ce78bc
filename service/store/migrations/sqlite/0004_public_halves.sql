-- SubjectPublicKeyInfo of service objects that are key pairs.
ALTER TABLE service_objects ADD COLUMN public BLOB;
